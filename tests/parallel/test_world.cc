#include "tests/parallel/test_world.h"

#include <glog/logging.h>

#include <cstdlib>
#include <string_view>

#include "parallel/collectives/nccl/nccl.h"
#include "tests/runtime/test_device.h"

namespace trefoil {

Messages TestMessages() {
  if (!OnGpu()) return Messages::kDirect;
  const char* messages = std::getenv("TREFOIL_TEST_MESSAGES");
  if (messages == nullptr || std::string_view(messages) == "HOST") return Messages::kThroughHost;
  CHECK_EQ(std::string_view(messages), "NCCL") << "TREFOIL_TEST_MESSAGES must be HOST or NCCL";
  return Messages::kNccl;
}

ThreadRanks TestThreads() {
  const char* sends = std::getenv("TREFOIL_TEST_SENDS");
  CHECK(sends == nullptr || std::string_view(sends) == "RENDEZVOUS") << "TREFOIL_TEST_SENDS must be RENDEZVOUS";
  return {.hosts = {}, .rendezvous = sends != nullptr};
}

TestWorld::TestWorld(World& host) : host_(host) {
  if (TestMessages() == Messages::kThroughHost) own_ = NewStagedWorld(host);
  if (TestMessages() != Messages::kNccl) return;
  auto nccl = NewNcclWorld(host);
  CHECK(nccl.ok()) << nccl.status();
  own_ = *std::move(nccl);
}

}  // namespace trefoil
