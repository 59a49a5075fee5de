// Collectives of more ranks than exchange directly: the bits of one process, and messages that grow as the logarithm.
#include <gtest/gtest.h>

#include <bit>
#include <functional>
#include <set>
#include <tuple>

#include "parallel/collectives/rounds.h"
#include "tests/parallel/collectives_checks.h"
#include "tests/runtime/sum_order.h"

namespace trefoil {
namespace {

constexpr int kDirect = 8;

TEST(Rounds, BringEveryRankTogetherWithFewOthers) {
  for (int ranks = 2; ranks <= 130; ++ranks) {
    const std::vector<Round> rounds = RoundsOf(ranks, kDirect);
    std::set<int> places;
    for (int rank = 0; rank < ranks; ++rank) {
      places.insert(PlaceByDigits(rank, rounds));
      std::set<int> reached = {rank};
      for (const Round& round : rounds) {
        std::set<int> next;
        for (const int from : reached) {
          EXPECT_EQ(round.PeerOf(from, round.DigitOf(from)), from);
          for (int digit = 0; digit < round.ranks; ++digit) next.insert(round.PeerOf(from, digit));
        }
        reached = next;
      }
      EXPECT_EQ(reached.size(), static_cast<size_t>(ranks)) << rank << " of " << ranks;
      EXPECT_TRUE(*reached.begin() == 0 && *reached.rbegin() == ranks - 1);
    }
    EXPECT_EQ(places.size(), static_cast<size_t>(ranks));
    EXPECT_TRUE(*places.begin() == 0 && *places.rbegin() == ranks - 1);
  }
  EXPECT_EQ(RoundsOf(8, kDirect).size(), 1u);
  EXPECT_EQ(RoundsOf(1024, kDirect).size(), 10u);
  EXPECT_EQ(RoundsOf(12, kDirect).size(), 3u);
}

// What `ranks` ranks add up, in one process; in the dtype's values.
float Rounded(DType dtype, float value) {
  return dtype == DType::kFloat32 ? value : static_cast<float>(BFloat16(value));
}

Tensor Upload(Device& device, DType dtype, const std::vector<float>& values) {
  const Tensor wide = device.Allocate(DType::kFloat32, {static_cast<int64_t>(values.size())}, Purpose::kActivations);
  device.Upload(values.data(), wide);
  if (dtype == DType::kFloat32) return wide;
  const Tensor x = device.Allocate(dtype, wide.shape(), Purpose::kActivations);
  for (int64_t i = 0; i < x.elements(); ++i) x.data<BFloat16>()[i] = BFloat16(values[static_cast<size_t>(i)]);
  return x;
}

std::vector<float> Values(const Tensor& x) {
  std::vector<float> values;
  for (int64_t i = 0; i < x.elements(); ++i) {
    values.push_back(x.dtype() == DType::kFloat32 ? x.data<float>()[i] : static_cast<float>(x.data<BFloat16>()[i]));
  }
  return values;
}

// Small sums, large ones, and parts of several segments, which go directly.
TEST(ManyRanks, GiveTheBitsOfOneProcess) {
  for (const int ranks : {2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 24}) {
    for (const int64_t part : {7, 701, ranks == 9 ? 300000 : ranks == 16 ? 100000 : 1500}) {
      const int64_t n = part * ranks;
      std::vector<std::vector<float>> all;
      for (int r = 0; r < ranks; ++r) all.push_back(Contribution(r, n));
      for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
        std::vector<float> expected;
        for (int64_t i = 0; i < n; ++i) {
          std::vector<float> values;
          for (const std::vector<float>& of_rank : all) {
            values.push_back(Rounded(dtype, of_rank[static_cast<size_t>(i)]));
          }
          expected.push_back(Rounded(dtype, SumInOrder(values)));
        }
        RunRanksAsThreads(ranks, [&](World& world) {
          const auto device = NewCpuDevice(/*threads=*/1);
          const auto group = world.NewGroupOfAll(*device);
          const int64_t r = world.rank();
          const Tensor in = Upload(*device, dtype, all[static_cast<size_t>(r)]);
          const Tensor mine = device->Allocate(dtype, {part}, Purpose::kGradients);
          group->ReduceScatterSum(in, mine);
          EXPECT_EQ(Values(mine), std::vector<float>(expected.begin() + r * part, expected.begin() + (r + 1) * part))
              << "reduce-scatter, rank " << r << " of " << ranks << ", " << part << " of " << Name(dtype);
          const Tensor gathered = device->Allocate(dtype, {n}, Purpose::kGradients);
          group->AllGather(mine, gathered);
          EXPECT_EQ(Values(gathered), expected) << "gather, rank " << r << " of " << ranks << ", " << part;
          group->AllReduceSum(in);
          EXPECT_EQ(Values(in), expected) << "all-reduce, rank " << r << " of " << ranks << ", " << part;
        });
      }
    }
  }
}

TEST(ManyRanks, DoWhatTheNullWorldCounts) {
  for (const int ranks : {9, 12, 16}) {
    RunRanksAsThreads(ranks, [](World& world) { CheckBytesSent(world); });
  }
}

// Messages, bytes and peers of one rank, the busiest of a tree, against the formulas; and what a planner is told.
TEST(ManyRanks, SendLogarithmicallyManyMessages) {
  constexpr int64_t kSmall = 256, kLarge = int64_t{1} << 20;  // floats; the large in one segment
  for (const int ranks : {8, 64, 512, 1024}) {
    const bool direct = ranks <= kDirect;
    const int64_t logarithm = std::bit_width(static_cast<unsigned>(ranks)) - 1;
    const int64_t once = direct ? ranks - 1 : logarithm;  // messages of a collective: of as many others
    for (const int rank : {0, ranks / 2, ranks - 1}) {
      const auto device = NewNullDevice();
      double told_messages = 0, told_bytes = 0;
      const auto world = NewNullWorld(ranks, rank, [&](const GroupCall& call) {
        told_messages = told_bytes = 0;
        for (const Round& round : call.exchanges.rounds) {
          told_messages += call.exchanges.times * (round.ranks - 1);
          told_bytes += call.exchanges.times * (round.ranks - 1) * call.exchanges.BytesToEach(round, call.bytes);
        }
      });
      const auto group = world->NewGroupOfAll(*device);
      const auto floats = [&](int64_t n) { return device->Allocate(DType::kFloat32, {n}, Purpose::kActivations); };
      const auto expect = [&](const char* what, const std::function<void()>& call, int64_t messages, int64_t bytes) {
        const int64_t messages_before = group->messages_sent(), bytes_before = group->bytes_sent();
        call();
        EXPECT_EQ(group->messages_sent() - messages_before, messages) << what << ", rank " << rank << " of " << ranks;
        EXPECT_EQ(group->bytes_sent() - bytes_before, bytes) << what << ", rank " << rank << " of " << ranks;
        if (direct) return;  // a small sum is told as a large one
        EXPECT_EQ(told_messages, messages) << what << ", " << ranks;
        EXPECT_EQ(told_bytes, bytes) << what << ", " << ranks;
      };
      const int64_t others = kLarge * 4 / ranks * (ranks - 1);  // (d-1)/d of the bytes
      expect("small sum", [&] { group->AllReduceSum(floats(kSmall)); }, once, once * kSmall * 4);
      expect("large sum", [&] { group->AllReduceSum(floats(kLarge)); }, 2 * once, 2 * others);
      expect("scatter", [&] { group->ReduceScatterSum(floats(kLarge), floats(kLarge / ranks)); }, once, others);
      expect("gather", [&] { group->AllGather(floats(kLarge / ranks), floats(kLarge)); }, once, others);
      const int64_t sent = group->messages_sent();
      EXPECT_TRUE(group->Agree(absl::OkStatus()).ok());
      std::vector<double> sums(6);
      group->SumAndGather(sums, std::vector<double>(3));
      EXPECT_LE(group->messages_sent() - sent, 2 * logarithm);
      const int64_t before = group->messages_sent();
      group->GatherStrings("text");
      EXPECT_EQ(group->messages_sent() - before, rank == 0 ? 0 : 2) << "length and text";
      // The tree's parents and children are peers in the rounds.
      EXPECT_EQ(group->peers(), direct ? ranks - 1 : logarithm) << "rank " << rank << " of " << ranks;
      const Tensor narrow = device->Allocate(DType::kBFloat16, {kLarge}, Purpose::kActivations);
      group->ReduceScatterSum(narrow, narrow.Range(0, {kLarge / ranks}));
      EXPECT_EQ(group->peers(), ranks - 1) << "sums of bfloat16 are direct";
      const auto pair = world->NewGroupOfAll(*device);
      for (const int tag : {0, 1}) pair->Receive(floats(9), (rank + 1) % ranks, tag);
      EXPECT_EQ(pair->peers(), 1) << "received from, twice";
    }
  }
}

TEST(ManyRanks, TellInHowManyRounds) {
  Exchanges told;
  const auto device = NewNullDevice();
  const auto rounds_of = [&](int ranks, StandsFor stands_for, DType dtype, int64_t elements) {
    const auto world = NewNullWorld(ranks, 0, [&](const GroupCall& call) { told = call.exchanges; }, stands_for);
    const Tensor x = device->Allocate(dtype, {elements}, Purpose::kActivations);
    world->NewGroupOfAll(*device)->AllReduceSum(x);
    return told.rounds.size();
  };
  constexpr int64_t kSmall = 100, kLarge = 100000;
  for (const int64_t elements : {kSmall, kLarge}) {
    const bool small = elements == kSmall;
    EXPECT_EQ(rounds_of(16, StandsFor::kMessages, DType::kFloat32, elements), 4u);
    EXPECT_EQ(told.whole, small);
    EXPECT_EQ(told.times, small ? 1 : 2);
    for (const auto& [ranks, stands_for, dtype] : {std::tuple(16, StandsFor::kMessages, DType::kBFloat16),
                                                   std::tuple(16, StandsFor::kNccl, DType::kFloat32),
                                                   std::tuple(8, StandsFor::kMessages, DType::kFloat32)}) {
      EXPECT_EQ(rounds_of(ranks, stands_for, dtype, elements), 1u);
      EXPECT_FALSE(told.whole);
      EXPECT_EQ(told.times, 2);
    }
  }
  // Parts of half a MiB go directly; of more than 32 ranks no segment has such.
  constexpr int64_t kHalfMib = 1 << 17;
  EXPECT_EQ(rounds_of(32, StandsFor::kMessages, DType::kFloat32, 32 * kHalfMib), 1u);
  EXPECT_EQ(rounds_of(32, StandsFor::kMessages, DType::kFloat32, 32 * (kHalfMib - 1)), 5u);
  EXPECT_EQ(rounds_of(64, StandsFor::kMessages, DType::kFloat32, 64 * kHalfMib), 6u);
  // Up a tree and down: 0, 1, 2, 4 and 8 of 13.
  EXPECT_EQ(rounds_of(13, StandsFor::kMessages, DType::kFloat32, kSmall), 4u);
  EXPECT_EQ(told.rounds.back().distance, 8);
  EXPECT_TRUE(told.whole);
  EXPECT_EQ(told.times, 2);
  EXPECT_EQ(rounds_of(13, StandsFor::kMessages, DType::kFloat32, kLarge), 1u);
}

}  // namespace
}  // namespace trefoil
