// A world for tensors of the tests' device (tests/runtime/test_device.h).
//
//   RunRanksAsThreads(4, [](World& threads) {
//     const TestWorld world(threads);
//     const auto device = NewTestDevice();
//     const auto group = world->NewGroupOfAll(*device);
#pragma once

#include <memory>

#include "parallel/collectives/world.h"

namespace trefoil {

// How tensors travel between the tests' ranks. On the GPU, which all ranks share, through the host's memory; or, with
// TREFOIL_TEST_MESSAGES=NCCL, by NCCL, which allows that to processes that it takes to be on two hosts (tests/gpu_check),
// and to threads on an emulated GPU.
enum class Messages { kDirect, kThroughHost, kNccl };
Messages TestMessages();

// How tests of whole steps run their ranks as threads: with TREFOIL_TEST_SENDS=RENDEZVOUS by rendezvous.
ThreadRanks TestThreads();

// `host` itself or over it, for TestMessages(). `host` outlives it.
class TestWorld {
 public:
  explicit TestWorld(World& host);
  World& operator*() const { return own_ != nullptr ? *own_ : host_; }
  World* operator->() const { return &**this; }

 private:
  World& host_;
  std::unique_ptr<World> own_;
};

}  // namespace trefoil
