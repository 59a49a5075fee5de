// How a program ends whose NCCL messages do not come, on an emulated GPU.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <thread>

#include "parallel/collectives/nccl/nccl.h"
#include "runtime/ops.h"
#include "tests/runtime/test_device.h"

namespace trefoil {
namespace {

Tensor Ones(Device& device) {
  const Tensor x = device.Allocate(DType::kFloat32, {1000}, Purpose::kGradients);
  Fill(device, x, 1);
  return x;
}

// World ranks 1 and 2 of 3 form a group and make a sum; then, with a time-out of 0.3 s, only rank 2 does `more`.
void RunGroup(const std::function<void(Group&, Device&)>& more) {
  RunRanksAsThreads(3, [&](World& host) {
    if (host.rank() == 0) return;
    const auto gpus = *NewNcclWorld(host);
    const auto device = NewTestDevice();
    const auto group = gpus->NewGroup("data", {1, 2}, *device);
    group->AllReduceSum(Ones(*device));
    gpus->set_timeout_seconds(0.3);
    if (host.rank() == 2) more(*group, *device);
    std::this_thread::sleep_for(std::chrono::seconds(20));
  });
}

class NcclWatchdogDeathTest : public testing::Test {
 protected:
  NcclWatchdogDeathTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(NcclWatchdogDeathTest, AnOperationThatIsNeverDone) {
  EXPECT_DEATH(RunGroup([](Group& group, Device& device) {
                 group.AllReduceSum(Ones(device));
                 device.Synchronize();
               }),
               "group \"data\" of 2: rank 2 on localhost: AllReduceSum is queued but not done after 0.3 s: .*The last ops queued: .*fill, AllReduceSum");
}

TEST_F(NcclWatchdogDeathTest, AReceiverThatDoesNotCome) {
  EXPECT_DEATH(RunGroup([](Group& group, Device& device) { group.Send(Ones(device), 0, 12); }),
               "group \"data\" of 2: rank 2 on localhost, to rank 1 on localhost: starting a communicator of two is still waiting on "
               "the host after 0.3 s");
}

TEST_F(NcclWatchdogDeathTest, AReplayThatIsNeverDone) {
  EXPECT_DEATH(RunGroup([](Group& group, Device& device) {
                 const Tensor x = Ones(device);
                 const auto recording = device.Record([&] { group.AllReduceSum(x); });
                 std::this_thread::sleep_for(std::chrono::seconds(1));  // a recording by itself is not waited for
                 device.Synchronize();
                 recording->Replay();
                 group.Replayed();
                 device.Synchronize();
               }),
               "rank 2 on localhost: a replay with its messages is queued but not done after 0.3 s");
}

TEST_F(NcclWatchdogDeathTest, AnErrorThatNcclReports) {
  EXPECT_DEATH(RunGroup([](Group&, Device&) { setenv("TREFOIL_EMULATED_NCCL_ERROR", "1", 1); }),
               "group \"data\" of 2: rank . on localhost: NCCL reports of an operation under way: error");
}

TEST_F(NcclWatchdogDeathTest, AMessageToOneself) {
  EXPECT_DEATH(RunGroup([](Group& group, Device& device) { group.Send(Ones(device), 1, 0); }),
               "rank 2 on localhost: a message between it and rank 1");
}

}  // namespace
}  // namespace trefoil
