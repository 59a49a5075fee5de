#include "parallel/collectives.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <mutex>
#include <set>
#include <thread>

#include "tests/parallel/collectives_checks.h"

namespace trefoil {
namespace {

class CollectivesOnThreads : public testing::TestWithParam<int> {};

TEST_P(CollectivesOnThreads, DoWhatAnyWorldMust) {
  for (const Check check : ChecksOf(TestMessages())) {
    RunRanksAsThreads(GetParam(), [&](World& threads) { check(*TestWorld(threads)); });
  }
}
TEST_P(CollectivesOnThreads, DoTheSameThroughCopies) {
  for (const Check check : ChecksOf(Messages::kThroughHost)) {
    RunRanksAsThreads(GetParam(), [&](World& world) { check(*NewStagedWorld(world)); });
  }
}
INSTANTIATE_TEST_SUITE_P(Ranks, CollectivesOnThreads, testing::Range(1, 6));

TEST(ThreadWorld, RanksAreAllOnThisHost) {
  std::mutex mutex;
  std::set<int> seen;
  RunRanksAsThreads(3, [&](World& world) {
    std::lock_guard lock(mutex);
    seen.insert(world.rank());
    EXPECT_EQ(world.size(), 3);
    EXPECT_EQ(world.local_rank(), world.rank());
    EXPECT_EQ(world.local_size(), 3);
  });
  EXPECT_EQ(seen, (std::set<int>{0, 1, 2}));
}

TEST(NullWorld, GetsNothingAndNeverWaits) {
  const auto world = NewNullWorld(4, 2);
  EXPECT_EQ(world->rank(), 2);
  EXPECT_EQ(world->size(), 4);
  const auto device = NewCpuDevice(1);
  const auto group = world->NewGroup("tensor", {0, 2}, *device);
  EXPECT_EQ(group->rank(), 1);
  const Tensor x = device->Allocate(DType::kFloat32, {3000}, Purpose::kActivations);
  for (int i = 0; i < 3000; ++i) x.data<float>()[i] = i;
  group->AllReduceSum(x);
  group->Broadcast(x, 0);
  group->Send(x, 0, 5);
  group->FinishSends();
  for (int i = 0; i < 3000; ++i) ASSERT_EQ(x.data<float>()[i], i);
  const Tensor all = device->Allocate(DType::kFloat32, {6000}, Purpose::kActivations);
  for (int i = 0; i < 6000; ++i) all.data<float>()[i] = -1;
  group->AllGather(x, all);
  for (int i = 0; i < 6000; ++i) ASSERT_EQ(all.data<float>()[i], i < 3000 ? 0 : i - 3000);
  group->Receive(x, 0, 5);
  for (int i = 0; i < 3000; ++i) ASSERT_EQ(x.data<float>()[i], 0);
  double number = 3;
  group->AllReduceSum(std::span(&number, 1));
  EXPECT_EQ(number, 3);
  EXPECT_EQ(group->AllGatherStrings("me"), (std::vector<std::string>{"me", "me"}));
  EXPECT_EQ(group->Agree(absl::NotFoundError("x")), absl::NotFoundError("x"));
}

TEST(NullWorld, ShowsEveryCall) {
  std::vector<std::string> calls;
  const auto device = NewNullDevice();
  const auto world = NewNullWorld(4, 2, [&](const GroupCall& call) {
    calls.push_back(call.group + " " + std::to_string(call.members.back()) + " " + call.operation + " " +
                    std::to_string(static_cast<int64_t>(call.bytes)));
  });
  const auto group = world->NewGroup("data", {0, 2}, *device);
  const auto floats = [&](int64_t n) { return device->Allocate(DType::kFloat32, {n}, Purpose::kActivations); };
  group->AllReduceSum(floats(10));
  group->ReduceScatterSum(floats(20), floats(10));
  group->AllGather(floats(10), floats(20));
  group->Broadcast(floats(1), 0);
  group->Send(floats(2), 0, 1);
  group->Receive(floats(3), 0, 1);
  EXPECT_EQ(calls, (std::vector<std::string>{"data 2 AllReduceSum 40", "data 2 ReduceScatterSum 80",
                                             "data 2 AllGather 80", "data 2 Broadcast 4", "data 2 Send 8",
                                             "data 2 Receive 12"}));
}

// Of the largest sum so far, a part of it per rank; bounded, whatever is summed over however many ranks.
TEST(NullWorld, TakesTheBufferOfTheWorldThatItStandsFor) {
  constexpr int64_t kMiB = int64_t{1} << 20;
  const auto taken = [](int ranks, StandsFor stands_for, const std::vector<int64_t>& floats, bool scatter) {
    const auto device = NewNullDevice();
    const auto world = NewNullWorld(ranks, ranks / 2, nullptr, stands_for);
    const auto group = world->NewGroupOfAll(*device);
    for (const int64_t n : floats) {
      const Tensor x = device->Allocate(DType::kFloat32, {n}, Purpose::kGradients);
      if (scatter) {
        group->ReduceScatterSum(x, x.Range(0, {n / ranks}));
      } else {
        group->AllReduceSum(x);
      }
    }
    const MemoryUse use = device->memory();
    const auto i = static_cast<size_t>(Purpose::kCommunication);
    EXPECT_EQ(use.current[i], use.peak[i]) << "kept, and given up before a larger one is taken";
    return use.peak[i];
  };
  for (const bool scatter : {false, true}) {
    const auto messages = StandsFor::kMessages, nccl = StandsFor::kNccl;
    EXPECT_EQ(taken(4, messages, {4096, 8192, 4096}, scatter), 4 * 8192);
    EXPECT_EQ(taken(4, messages, {100 * kMiB}, scatter), 4 * kMiB);
    EXPECT_EQ(taken(16, messages, {100 * kMiB}, scatter), 16 * kMiB);
    EXPECT_EQ(taken(512, messages, {100 * kMiB}, scatter), 16 * kMiB);
    EXPECT_EQ(taken(16384, messages, {100 * kMiB}, scatter), 64 * kMiB);
    EXPECT_EQ(taken(4, nccl, {4096}, scatter), 4 * 4096);
    EXPECT_EQ(taken(4, nccl, {100 * kMiB}, scatter), 64 * kMiB);
    EXPECT_EQ(taken(512, nccl, {100 * kMiB}, scatter), 64 * kMiB);
  }
  EXPECT_EQ(taken(4, StandsFor::kMessages, {1000}, false), 4 * 4000);  // whole to every rank
  EXPECT_EQ(taken(4, StandsFor::kNccl, {1000}, false), 4032);  // blocks are of multiples of 64 bytes
}

TEST(NullWorldDeathTest, ChecksSizes) {
  const auto device = NewNullDevice();
  const auto group = NewNullWorld(2, 0)->NewGroupOfAll(*device);
  auto floats = [&](int64_t n) { return device->Allocate(DType::kFloat32, {n}, Purpose::kActivations); };
  EXPECT_DEATH(group->AllGather(floats(3), floats(7)), "\\[3\\] to \\[7\\] over 2 ranks");
  EXPECT_DEATH(group->ReduceScatterSum(floats(7), floats(3)), "\\[7\\] to \\[3\\] over 2 ranks");
  EXPECT_DEATH(group->Broadcast(floats(1), 2), "root 2 of 2 ranks");
  EXPECT_DEATH(NewNullWorld(4, 1)->NewGroup("data", {0, 2}, *device), "group data does not contain this rank, 1");
}

class CollectivesDeathTest : public testing::Test {
 protected:
  CollectivesDeathTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }

  // World ranks 1 and 2 form a group, of which only rank 2 makes the call.
  static void WaitInVain(const std::function<void(Group&, Device&)>& call) {
    RunRanksAsThreads(3, [&](World& world) {
      if (world.rank() == 0) return;
      world.set_timeout_seconds(0.2);
      const auto device = NewCpuDevice(1);
      const auto group = world.NewGroup("data", {1, 2}, *device);
      if (world.rank() == 2) call(*group, *device);
    });
  }
};

TEST_F(CollectivesDeathTest, TimeOutNamesRankOperationAndPeer) {
  EXPECT_DEATH(WaitInVain([](Group& group, Device& device) {
                 group.AllReduceSum(device.Allocate(DType::kFloat32, {1024}, Purpose::kGradients));
               }),
               "group \"data\": rank 1 \\(world rank 2\\) waited 0.2 s in AllReduceSum of 4096 bytes for rank 0 "
               "\\(world rank 1\\), which did not come");
  EXPECT_DEATH(WaitInVain([](Group& group, Device& device) {
                 group.Receive(device.Allocate(DType::kFloat32, {10}, Purpose::kGradients), 0, 12);
               }),
               "rank 1 \\(world rank 2\\) waited 0.2 s in Receive of 40 bytes with tag 12 for rank 0");
}

TEST_F(CollectivesDeathTest, DifferentSizesAreFound) {
  EXPECT_DEATH(RunRanksAsThreads(2,
                                 [](World& world) {
                                   const auto device = NewCpuDevice(1);
                                   const auto group = world.NewGroupOfAll(*device);
                                   group->AllReduceSum(
                                       device->Allocate(DType::kFloat32, {10 + world.rank()}, Purpose::kGradients));
                                   std::this_thread::sleep_for(std::chrono::seconds(5));
                                 }),
               "sent another number of bytes than expected");
}

}  // namespace
}  // namespace trefoil
