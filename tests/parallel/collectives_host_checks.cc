// The checks of collectives_checks.h of what the host has: numbers, texts, errors.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/parallel/collectives_checks.h"
#include "tests/runtime/sum_order.h"
#include "tests/runtime/test_device.h"

namespace trefoil {

void CheckHostNumbersAndTexts(World& world) {
  const auto device = NewTestDevice();
  const auto group = world.NewGroupOfAll(*device);
  const int P = group->size();
  auto value = [](int rank, int i) { return std::ldexp(1.1 + rank * 0.37, (rank * 13 + i * 7) % 60); };
  constexpr int kNumbers = 50;
  std::vector<double> sums, maxima, expected_sums(kNumbers), expected_maxima(kNumbers);
  for (int i = 0; i < kNumbers; ++i) {
    sums.push_back(value(group->rank(), i));
    std::vector<double> of_ranks;
    for (int r = 0; r < P; ++r) of_ranks.push_back(value(r, i));
    expected_sums[i] = SumInOrder(of_ranks);
    expected_maxima[i] = *std::max_element(of_ranks.begin(), of_ranks.end());
  }
  maxima = sums;
  group->AllReduceSum(std::span<double>(sums));
  group->AllReduceMax(std::span<double>(maxima));
  EXPECT_EQ(sums, expected_sums);
  EXPECT_EQ(maxima, expected_maxima);
  // A NaN is not lost in a maximum, whichever rank has it.
  for (int r = 0; r < P; ++r) {
    double x = group->rank() == r ? std::nan("") : 1.0;
    group->AllReduceMax(std::span(&x, 1));
    EXPECT_TRUE(std::isnan(x));
  }
  group->AllReduceSum(std::span<double>());
  // What rank 0 gathers on the way changes no sum.
  for (const int numbers : {kNumbers, 0}) {
    std::vector<double> own, all;
    for (int i = 0; i < 3; ++i) own.push_back(value(group->rank(), 100 + i));
    for (int r = 0; r < P; ++r) {
      for (int i = 0; i < 3; ++i) all.push_back(value(r, 100 + i));
    }
    for (int i = 0; i < numbers; ++i) sums[i] = value(group->rank(), i);
    if (group->rank() > 0) all.clear();
    EXPECT_EQ(group->SumAndGather(std::span(sums).first(numbers), own), all);
    EXPECT_EQ(sums, expected_sums);
  }

  auto text = [](int rank) { return rank == 1 ? std::string() : std::string(rank * 3000 + 2, 'a' + rank); };
  std::vector<std::string> expected;
  for (int r = 0; r < P; ++r) expected.push_back(text(r));
  EXPECT_EQ(group->AllGatherStrings(text(group->rank())), expected);
  EXPECT_EQ(group->GatherStrings(text(group->rank())), group->rank() == 0 ? expected : std::vector<std::string>());
  EXPECT_EQ(group->BroadcastString(text(group->rank())), text(0));
  EXPECT_EQ(world.all().AllGatherStrings(text(world.rank())), expected);
  const auto join = [](const std::string& lower, const std::string& upper) { return lower + upper; };
  std::string all;
  for (const std::string& each : expected) all += each;
  EXPECT_EQ(group->ReduceStrings(text(group->rank()), join), group->rank() == 0 ? all : "");
  // Rank r has for s (r + 2 s) % 3 texts.
  auto between = [](int from, int to) {
    std::vector<std::string> texts;
    for (int i = 0; i < (from + 2 * to) % 3; ++i) {
      texts.push_back(std::string(i * 1000, 'a' + from % 26) + std::to_string(to * i));
    }
    return texts;
  };
  std::vector<Group::RankText> sent, received;
  for (int other = P - 1; other >= 0; --other) {
    for (const std::string& each : between(group->rank(), other)) sent.push_back({other, each});
  }
  for (int other = 0; other < P; ++other) {
    for (const std::string& each : between(other, group->rank())) received.push_back({other, each});
  }
  const std::vector<Group::RankText> exchanged = group->ExchangeStrings(sent);
  ASSERT_EQ(exchanged.size(), received.size());
  for (size_t i = 0; i < received.size(); ++i) {
    EXPECT_EQ(exchanged[i].rank, received[i].rank);
    EXPECT_EQ(exchanged[i].text, received[i].text);
  }
  group->Barrier();
}

void CheckAgree(World& world) {
  const auto device = NewTestDevice();
  const auto group = world.NewGroupOfAll(*device);
  const int last = group->size() - 1;
  const bool one_host = world.hosts().RanksByHost().size() == 1;
  const auto named = [&](int rank, const std::string& message) {
    return last == 0 || (rank == 0 && one_host) ? message : "rank " + std::to_string(rank) + " on " + world.host_of(rank) + ": " + message;
  };
  EXPECT_TRUE(group->Agree(absl::OkStatus()).ok());
  const std::string text = "shard 7: no such\nfile 3 x";
  const absl::Status wanted = absl::NotFoundError(text);
  EXPECT_EQ(group->Agree(group->rank() == last ? wanted : absl::OkStatus()), absl::NotFoundError(named(last, text)));
  // The lowest rank's error wins.
  EXPECT_EQ(group->Agree(group->rank() == 0 ? wanted : absl::InternalError("")), absl::NotFoundError(named(0, text)));
  // What every rank finds is nobody's, and what rank 0 has against the config is everybody's.
  EXPECT_EQ(group->Agree(absl::DataLossError("")), absl::DataLossError(""));
  EXPECT_EQ(group->Agree(wanted), wanted);
  const absl::Status config = absl::InvalidArgumentError(text);
  EXPECT_EQ(group->Agree(group->rank() == 0 ? config : absl::OkStatus()), config);
  EXPECT_EQ(group->Agree(group->rank() == last ? config : absl::OkStatus()),
            absl::InvalidArgumentError(last == 0 ? text : named(last, text)));
}

}  // namespace trefoil
