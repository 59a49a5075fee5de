#include "launcher/cluster/hosts_report.h"

#include <gtest/gtest.h>

namespace trefoil {
namespace {

ParallelConfig Layout(int tensor, int pipeline, int data) {
  ParallelConfig parallel;
  parallel.set_tensor(tensor);
  parallel.set_context(1);
  parallel.set_pipeline(pipeline);
  parallel.set_data(data);
  return parallel;
}

TEST(HostLines, OneHostIsNotWorthALine) { EXPECT_EQ(HostLines(Layout(2, 1, 1), Hosts("a", 2)), ""); }

TEST(HostLines, SaysWhichRanksAreWhere) {
  EXPECT_EQ(HostLines(Layout(2, 2, 1), Hosts({"a", "a", "b", "b"})), "hosts     a: ranks 0-1; b: ranks 2-3\n");
  EXPECT_EQ(HostLines(Layout(1, 1, 4), Hosts({"a", "b", "a", "a"})), "hosts     a: ranks 0, 2-3; b: rank 1\n");
}

TEST(HostLines, WarnsOfTensorGroupsAcrossHosts) {
  EXPECT_EQ(HostLines(Layout(2, 1, 2), Hosts({"a", "b", "a", "b"})),
            "hosts     a: ranks 0, 2; b: ranks 1, 3\n"
            "warning   2 tensor groups lie across hosts (ranks 0-1 on a, b), so that each layer's sums go over the network; "
            "mpirun --map-by slot or srun --distribution=block puts neighbours on one host\n");
  // Hosts of unequal size.
  EXPECT_EQ(HostLines(Layout(2, 1, 2), Hosts({"a", "b", "b", "b"})),
            "hosts     a: rank 0; b: ranks 1-3\n"
            "warning   1 tensor group lies across hosts (ranks 0-1 on a, b), so that each layer's sums go over the network; "
            "give each host a multiple of parallel.tensor 2 ranks, or take a tensor of at most 1\n");
}

}  // namespace
}  // namespace trefoil
