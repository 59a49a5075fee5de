#include "parallel/collectives/group.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
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
TEST_P(CollectivesOnThreads, DoTheSameByRendezvous) {
  for (const Check check : ChecksOf(TestMessages())) {
    RunRanksAsThreads(GetParam(), [&](World& threads) { check(*TestWorld(threads)); }, {.rendezvous = true});
  }
}
TEST_P(CollectivesOnThreads, DoTheSameThroughCopies) {
  for (const Check check : ChecksOf(Messages::kThroughHost)) {
    RunRanksAsThreads(GetParam(), [&](World& world) { check(*NewStagedWorld(world)); });
  }
}
TEST_P(CollectivesOnThreads, AreThoseOfNcclWhereTheFastestAreAskedFor) {
  if (TestMessages() != Messages::kNccl) GTEST_SKIP() << "needs TREFOIL_TEST_MESSAGES=NCCL";
  for (const Check check : ChecksOfFastestSums()) {
    RunRanksAsThreads(GetParam(), [&](World& threads) { check(*TestWorld(threads)); });
  }
}
INSTANTIATE_TEST_SUITE_P(Ranks, CollectivesOnThreads, testing::Range(1, 6));

// More ranks than any tree's first rounds, and not only powers of two.
TEST(ManyRanks, AddInRankOrderAndGather) {
  for (const int ranks : {13, 33, 64}) {
    for (const Check check : {CheckHostNumbersAndTexts, CheckAgree, CheckBroadcast, CheckSubgroups}) {
      RunRanksAsThreads(ranks, [&](World& threads) { check(*TestWorld(threads)); });
    }
  }
}

// Over the whole group: size - 1 messages up, as many down; no rank has more than log2 of the size.
TEST(ManyRanks, SendFewMessagesForNumbers) {
  for (const int ranks : {2, 3, 8, 13, 33, 64}) {
    const auto total = [&](const std::function<void(Group&)>& call, int64_t* most) {
      std::atomic<int64_t> messages = 0, worst = 0;
      RunRanksAsThreads(ranks, [&](World& world) {
        call(world.all());
        messages += world.all().messages_sent();
        int64_t seen = worst;
        while (seen < world.all().messages_sent() && !worst.compare_exchange_weak(seen, world.all().messages_sent())) {
        }
      });
      *most = worst;
      return messages.load();
    };
    int64_t most = 0;
    const auto rounds = static_cast<int64_t>(std::ceil(std::log2(ranks)));
    EXPECT_EQ(total([](Group& all) { EXPECT_TRUE(all.Agree(absl::OkStatus()).ok()); }, &most), 2 * (ranks - 1));
    EXPECT_EQ(most, rounds);
    EXPECT_EQ(total([](Group& all) { all.Barrier(); }, &most), 2 * (ranks - 1));
    EXPECT_EQ(total(
                  [](Group& all) {
                    double sums[] = {1, 2};
                    const double own[] = {3, 4, 5};
                    all.SumAndGather(sums, own);
                  },
                  &most),
              2 * (ranks - 1));
    EXPECT_EQ(most, rounds);
    EXPECT_EQ(total([](Group& all) { all.GatherStrings("text"); }, &most), 2 * (ranks - 1)) << "length and text";
    EXPECT_EQ(total([](Group& all) { all.BroadcastString("text"); }, &most), 2 * (ranks - 1));
    const auto first = [](const std::string& lower, const std::string&) { return lower; };
    EXPECT_EQ(total([&](Group& all) { all.ReduceStrings("text", first); }, &most), 2 * (ranks - 1));
    EXPECT_EQ(most, 2) << "length and text";
    const auto to_zero = [](Group& all) { all.ExchangeStrings({{.rank = 0, .text = "text"}}); };
    EXPECT_LE(total(to_zero, &most), 2 * ranks * rounds);
    EXPECT_LE(most, 2 * rounds);
  }
}

// Rank 0 comes late: the others wait for it, and only then.
TEST(ThreadWorld, CountsHowLongItsMainThreadWaits) {
  RunRanksAsThreads(3, [&](World& world) {
    world.all().Barrier();
    const double before = world.patience().waited_seconds();
    if (world.rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(300));
    world.all().Barrier();
    const double waited = world.patience().waited_seconds() - before;
    EXPECT_EQ(waited > 0.15, world.rank() != 0) << waited;
    // Another thread's waits are not the rank's: it computes meanwhile.
    const double now = world.patience().waited_seconds();
    std::thread([&] {
      if (world.rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(50));
      world.all().Barrier();
    }).join();
    EXPECT_EQ(world.patience().waited_seconds(), now);
  });
}

TEST(ThreadWorld, SaysOnWhichHostItsRanksAre) {
  RunRanksAsThreads(
      5,
      [](World& world) {
        EXPECT_EQ(world.host_of(3), "b");
        EXPECT_EQ(world.local_rank(), (std::vector{0, 1, 0, 1, 2}[static_cast<size_t>(world.rank())]));
        EXPECT_EQ(world.local_size(), world.rank() < 2 ? 2 : 3);
        EXPECT_EQ(world.all().Agree(world.rank() >= 3 ? absl::NotFoundError("no GPU") : absl::OkStatus()),
                  absl::NotFoundError("rank 3 on b: no GPU"));
        // Rank 0's too, as there are two hosts.
        EXPECT_EQ(world.all().Agree(world.rank() == 0 ? absl::NotFoundError("disk") : absl::OkStatus()),
                  absl::NotFoundError("rank 0 on a: disk"));
        const auto expected = std::vector<std::pair<std::string, std::vector<int>>>{{"a", {0, 1}}, {"b", {2, 3, 4}}};
        EXPECT_EQ(world.hosts().RanksByHost(), expected);
      },
      {.hosts = {"a", "a", "b", "b", "b"}});
}

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

TEST(NullWorld, GetsNothingOfTheFastestSums) {
  const auto world = NewNullWorld(2, 1);
  const auto device = NewCpuDevice(1);
  const auto group = world->NewGroupOfAll(*device, RankSums::kFastest);
  const Tensor x = device->Allocate(DType::kFloat32, {3}, Purpose::kActivations);
  const Tensor all = device->Allocate(DType::kFloat32, {6}, Purpose::kActivations);
  for (int i = 0; i < 3; ++i) x.data<float>()[i] = 1 + i;
  group->AllReduceSum(x);
  group->AllGather(x, all);
  EXPECT_EQ(std::vector<float>(all.data<float>(), all.data<float>() + 6), (std::vector<float>{0, 0, 0, 1, 2, 3}));
}

TEST(NullWorldDeathTest, ChecksSizes) {
  const auto device = NewNullDevice();
  const auto group = NewNullWorld(2, 0)->NewGroupOfAll(*device);
  auto floats = [&](int64_t n) { return device->Allocate(DType::kFloat32, {n}, Purpose::kActivations); };
  EXPECT_DEATH(group->AllGather(floats(3), floats(7)), "\\[3\\] to \\[7\\] over 2 ranks");
  EXPECT_DEATH(group->ReduceScatterSum(floats(7), floats(3)), "\\[7\\] to \\[3\\] over 2 ranks");
  EXPECT_DEATH(group->Broadcast(floats(1), 2), "root 2 of 2 ranks");
  const auto fastest = NewNullWorld(2, 0)->NewGroupOfAll(*device, RankSums::kFastest);
  EXPECT_DEATH(fastest->AllGather(floats(3), floats(7)), "\\[3\\] to \\[7\\] over 2 ranks");
  EXPECT_DEATH(fastest->ReduceScatterSum(floats(7), floats(3)), "\\[7\\] to \\[3\\] over 2 ranks");
  EXPECT_DEATH(fastest->AllReduceSum(device->Allocate(DType::kInt32, {3}, Purpose::kGradients)), "sums are of float32");
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

TEST_F(CollectivesDeathTest, ThreadsHaveNoLibrary) {
  EXPECT_DEATH(RunRanksAsThreads(1, [](World& world) { world.NewGroupOfAll(*NewCpuDevice(1), RankSums::kFastest); }),
               "group world: threads have no library whose collectives add up");
}

TEST_F(CollectivesDeathTest, TimeOutNamesRankOperationAndPeer) {
  EXPECT_DEATH(WaitInVain([](Group& group, Device& device) {
                 group.AllReduceSum(device.Allocate(DType::kFloat32, {1024}, Purpose::kGradients));
               }),
               "group \"data\": rank 2 on localhost waited 0.2 s in AllReduceSum of 4096 bytes for rank 1 on localhost, "
               "which did not come");
  EXPECT_DEATH(WaitInVain([](Group& group, Device& device) {
                 group.Receive(device.Allocate(DType::kFloat32, {10}, Purpose::kGradients), 0, 12);
               }),
               "rank 2 on localhost waited 0.2 s in Receive of 40 bytes with tag 12 for rank 1 on localhost");
}

// Each kind of wait has its own limit, and says which field of the config it is.
TEST_F(CollectivesDeathTest, TimeOutsAreOfThePhase) {
  const auto wait_in = [](Phase phase) {
    RunRanksAsThreads(2, [&](World& world) {
      world.patience().set_limits({.startup = 0.1, .step = 0.2, .save = 0.3});
      const During during(world.all(), phase);
      if (world.rank() == 1) world.all().Barrier();
    });
  };
  EXPECT_DEATH(wait_in(Phase::kStartup), "waited 0.1 s \\(runtime.startup_timeout_seconds\\) in ");
  EXPECT_DEATH(wait_in(Phase::kStep), "waited 0.2 s \\(runtime.timeout_seconds\\) in ");
  EXPECT_DEATH(wait_in(Phase::kSave), "waited 0.3 s \\(runtime.save_timeout_seconds\\) in ");
}

TEST(During, EndsWithItsScope) {
  RunRanksAsThreads(1, [](World& world) {
    EXPECT_EQ(world.patience().phase(), Phase::kStartup);
    {
      const During steps(world.all(), Phase::kStep);
      {
        const During save(world.all(), Phase::kSave);
        EXPECT_EQ(world.patience().phase(), Phase::kSave);
      }
      EXPECT_EQ(world.patience().phase(), Phase::kStep);
    }
    EXPECT_EQ(world.patience().phase(), Phase::kStartup);
  });
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
