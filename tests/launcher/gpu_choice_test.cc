#include "launcher/cluster/gpu_choice.h"

#include <gtest/gtest.h>

namespace trefoil {
namespace {

using Seen = std::vector<std::vector<std::string>>;

// What every rank takes: UUIDs, or the first error.
absl::StatusOr<std::vector<std::string>> Taken(const Hosts& hosts, const Seen& seen, bool may_share = false) {
  std::vector<std::string> taken;
  for (size_t rank = 0; rank < seen.size(); ++rank) {
    TREFOIL_ASSIGN_OR_RETURN(const int ordinal, ChooseGpu(hosts, static_cast<int>(rank), seen, may_share));
    taken.push_back(seen[rank][static_cast<size_t>(ordinal)]);
  }
  return taken;
}

using Uuids = std::vector<std::string>;

TEST(GpuChoiceTest, RanksThatSeeAllTakeThemInOrder) {
  EXPECT_EQ(*Taken(Hosts("a", 3), Seen(3, {"A", "B", "C", "D"})), (Uuids{"A", "B", "C"}));
  // Ranks of two hosts in turn.
  const Hosts hosts(std::vector<std::string>{"a", "b", "a", "b"});
  EXPECT_EQ(*Taken(hosts, {{"A", "B"}, {"C", "D"}, {"A", "B"}, {"C", "D"}}), (Uuids{"A", "C", "B", "D"}));
}

TEST(GpuChoiceTest, RanksThatAreBoundTakeTheirOwn) {
  const Seen one_each = {{"C"}, {"A"}, {"B"}};
  EXPECT_EQ(*Taken(Hosts("a", 3), one_each), (Uuids{"C", "A", "B"}));
  for (int rank = 0; rank < 3; ++rank) EXPECT_EQ(*ChooseGpu(Hosts("a", 3), rank, one_each, false), 0);
  EXPECT_EQ(*Taken(Hosts("a", 3), {{"A", "B"}, {"C", "D"}, {"E", "F"}}), (Uuids{"A", "C", "E"}));
  EXPECT_EQ(*Taken(Hosts("a", 4), {{"A", "B"}, {"A", "B"}, {"C", "D"}, {"C", "D"}}), (Uuids{"A", "B", "C", "D"}));
}

TEST(GpuChoiceTest, OneThatTwoRanksWouldHoldIsAnError) {
  EXPECT_EQ(Taken(Hosts("node7", 3), {{"A"}, {"B"}, {"B"}}).status().message(),
            "runtime.device: CUDA: ranks 1 and 2 would both hold B of host node7, whose 3 ranks see 2 GPUs together; start at "
            "most 2 a host, or, for testing, set runtime.allow_shared_device and runtime.messages: HOST");
  EXPECT_EQ(Taken(Hosts("node7", 2), {{"A", "B"}, {"A"}}).status().message(),
            "runtime.device: CUDA: ranks 0 and 1 would both hold A of host node7, whose 2 ranks see 2 GPUs together; let each "
            "rank see one of its own (Slurm: --gpus-per-task=1), or all see all, or, for testing, set "
            "runtime.allow_shared_device and runtime.messages: HOST");
  EXPECT_TRUE(Taken(Hosts(std::vector<std::string>{"a", "b"}), {{"A"}, {"B"}}).ok());
}

TEST(GpuChoiceTest, SharesWhereItMay) {
  EXPECT_EQ(*Taken(Hosts("a", 2), {{"A"}, {"A"}}, /*may_share=*/true), (Uuids{"A", "A"}));
  EXPECT_EQ(*Taken(Hosts("a", 4), Seen(4, {"A", "B"}), /*may_share=*/true), (Uuids{"A", "B", "A", "B"}));
}

// It says so itself; the others go on to be told.
TEST(GpuChoiceTest, ARankThatSeesNoneTakesNone) {
  EXPECT_EQ(*ChooseGpu(Hosts("a", 3), 2, {{"A", "B"}, {}, {"A", "B"}}, false), 1);
}

}  // namespace
}  // namespace trefoil
