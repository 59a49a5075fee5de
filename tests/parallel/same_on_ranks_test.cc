#include "parallel/same_on_ranks.h"

#include <gtest/gtest.h>

#include <mutex>

#include "parallel/collectives/world.h"
#include "runtime/devices/cpu.h"

namespace trefoil {
namespace {

using FactsOf = std::function<std::vector<RankFact>(int rank)>;

// What all of four ranks are told; they must be told the same.
absl::Status Check(const FactsOf& facts, const std::string& remedy = "") {
  std::mutex mutex;
  std::vector<absl::Status> statuses;
  RunRanksAsThreads(4, [&](World& world) {
    const std::unique_ptr<Device> device = NewCpuDevice(/*threads=*/1);
    const absl::Status status = CheckSameOnRanks(*world.NewGroupOfAll(*device), facts(world.rank()), remedy);
    std::lock_guard lock(mutex);
    statuses.push_back(status);
  });
  for (const absl::Status& status : statuses) EXPECT_EQ(status, statuses[0]);
  return statuses[0];
}

std::string On(int rank) { return "rank " + std::to_string(rank) + " on localhost has "; }

TEST(SameOnRanks, EqualFactsAreFine) {
  EXPECT_TRUE(Check([](int) { return std::vector<RankFact>{{"a", "1"}, {"b", ""}, {"c:", "4:x"}}; }).ok());
  EXPECT_TRUE(Check([](int) { return std::vector<RankFact>{}; }).ok());
}

TEST(SameOnRanks, TheFirstRankAndItsFirstFactThatDiffers) {
  const absl::Status status = Check(
      [](int rank) {
        const std::string value = std::to_string(rank < 2 ? 0 : rank);
        return std::vector<RankFact>{{"corpus", "4 files"}, {"seed", value}, {"steps", value}};
      },
      "start all ranks alike");
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_EQ(status.message(), "seed: " + On(2) + "2, " + On(0) + "0; every rank must have the same; start all ranks alike");
}

// Facts run into each other only if their borders are lost.
TEST(SameOnRanks, BordersOfFactsCount) {
  const absl::Status status = Check([](int rank) {
    return rank == 3 ? std::vector<RankFact>{{"a", "1"}, {"", "b2"}} : std::vector<RankFact>{{"a", "1b"}, {"", "2"}};
  });
  EXPECT_EQ(status.message(), "a: " + On(3) + "1, " + On(0) + "1b; every rank must have the same");
}

TEST(SameOnRanks, OtherNumbersOfFacts) {
  const auto files = [](int count) {
    std::vector<RankFact> facts;
    for (int i = 0; i < count; ++i) facts.push_back({"file " + std::to_string(i), "7 tokens"});
    return facts;
  };
  EXPECT_EQ(Check([&](int rank) { return files(rank == 1 ? 2 : 3); }).message(),
            "file 2: " + On(1) + "nothing, " + On(0) + "7 tokens; every rank must have the same");
  EXPECT_EQ(Check([&](int rank) { return files(rank == 1 ? 3 : 2); }).message(),
            "file 2: " + On(1) + "7 tokens, " + On(0) + "nothing; every rank must have the same");
}

TEST(SameOnRanks, OtherNames) {
  EXPECT_EQ(Check([](int rank) { return std::vector<RankFact>{{rank == 3 ? "file b" : "file a", "7 tokens"}}; }).message(),
            "file a: " + On(3) + "file b 7 tokens, " + On(0) + "7 tokens; every rank must have the same");
}

TEST(SameOnRanks, AnEmptyValueIsNothing) {
  EXPECT_EQ(Check([](int rank) { return std::vector<RankFact>{{"--set", rank == 2 ? "seed=9" : ""}}; }).message(),
            "--set: " + On(2) + "seed=9, " + On(0) + "nothing; every rank must have the same");
}

}  // namespace
}  // namespace trefoil
