#include "planner/time_model.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace trefoil {
namespace {

// Two devices a node; a message costs 1 us in it and 10 us beyond, at 100 and 10 GB/s.
constexpr char kCluster[] = R"(
  gpu: true devices_per_node: 2
  peaks { dtype: "float32" tflops: 1 }
  ops { ops: "matmul" overhead_us: 1 efficiency: 0.5 half_rows: 100 gbytes_per_second: 1 }
  ops { ops: "attention" dtype: "float32" efficiency: 0.1 }
  ops { gbytes_per_second: 2 }
  node { gbytes_per_second: 100 latency_us: 1 }
  network { gbytes_per_second: 10 latency_us: 10 }
)";

Cluster ClusterOf(const std::string& more = "") {
  Cluster cluster;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(kCluster + more, &cluster));
  return cluster;
}

OpCount Count(const char* op, double flops, double bytes, DType dtype = DType::kFloat32) {
  OpCount count;
  count.op = op;
  count.flops = flops;
  count.bytes = bytes;
  count.dtype = dtype;
  return count;
}

TEST(TimeModel, OpsAreBoundByFlopsOrBytes) {
  TimeModel model(ClusterOf(), 1);
  OpCount product = Count("matmul", 1e9, 0);
  product.product = {.rows = 100, .columns = 7, .inner = 9};
  EXPECT_DOUBLE_EQ(model.OpSeconds(product), 1e-6 + 1e9 / (1e12 * 0.5 * 0.5));
  product.bytes = 1e9;
  EXPECT_DOUBLE_EQ(model.OpSeconds(product), 1e-6 + 1);
  EXPECT_DOUBLE_EQ(model.OpSeconds(Count("attention", 1e9, 1e12)), 1e-2);
  // The first entry that fits: another dtype's attention falls through to the last.
  EXPECT_DOUBLE_EQ(model.OpSeconds(Count("attention", 1e9, 1e9, DType::kBFloat16)), 0.5);
  EXPECT_DOUBLE_EQ(model.OpSeconds(Count("gelu", 1e9, 2e9)), 1);
}

TEST(TimeModel, CollectivesTakeTheSlowerLink) {
  TimeModel model(ClusterOf(), 1);
  const auto once = [](int ranks) { return Exchanges{.rounds = RoundsOf(ranks, /*direct=*/8)}; };
  EXPECT_EQ(model.CollectiveSeconds(once(1), {3}, 1e9), 0);
  EXPECT_DOUBLE_EQ(model.CollectiveSeconds(once(2), {0, 1}, 1e9), 1e-6 + 0.5e9 / 100e9);
  // One peer in the node, two beyond: a quarter and a half of the bytes.
  EXPECT_DOUBLE_EQ(model.CollectiveSeconds(once(4), {0, 1, 2, 3}, 1e9), 1e-5 + 0.5e9 / 10e9);
  const Exchanges sum = {.rounds = RoundsOf(2, 8), .times = 2};
  EXPECT_DOUBLE_EQ(model.CollectiveSeconds(sum, {0, 1}, 1e9), 2 * (1e-6 + 0.5e9 / 100e9));
  EXPECT_DOUBLE_EQ(model.MessageSeconds(0, 1, 1e9), 1e-6 + 1e-2);
  EXPECT_DOUBLE_EQ(model.MessageSeconds(1, 2, 1e9), 1e-5 + 1e-1);
  // All-reduce 2 (n-1)/n S, gather and scatter (n-1)/n S.
  EXPECT_DOUBLE_EQ(TimeModel::BytesSent({.rounds = RoundsOf(4, 8), .times = 2}, 100), 150);
  EXPECT_DOUBLE_EQ(TimeModel::BytesSent(once(4), 100), 75);
  EXPECT_DOUBLE_EQ(TimeModel::BytesSent(once(16), 160), 150);
}

TEST(TimeModel, EachRoundTakesTheLinkToItsPeers) {
  TimeModel model(ClusterOf(), 1);
  // Every second rank of 24: 4 to a node of 8, so that 1 and 2 places on is near.
  Cluster of_eight = ClusterOf();
  of_eight.set_devices_per_node(8);
  TimeModel wide(of_eight, 1);
  std::vector<int> all(16), every_second(12);
  for (int i = 0; i < 16; ++i) all[static_cast<size_t>(i)] = i;
  for (int i = 0; i < 12; ++i) every_second[static_cast<size_t>(i)] = 2 * i;
  const std::vector<Round> of_16 = RoundsOf(16, /*direct=*/8), of_12 = RoundsOf(12, 8);
  // Half of the bytes to the neighbour; a quarter, an eighth and a sixteenth beyond the node.
  const double scattered = 1e-6 + 0.5e9 / 100e9 + 3 * 1e-5 + (0.25e9 + 0.125e9 + 0.0625e9) / 10e9;
  EXPECT_DOUBLE_EQ(model.CollectiveSeconds({.rounds = of_16}, all, 1e9), scattered);
  EXPECT_DOUBLE_EQ(model.CollectiveSeconds({.rounds = of_16, .times = 2}, all, 1e9), 2 * scattered);
  EXPECT_DOUBLE_EQ(wide.CollectiveSeconds({.rounds = of_12}, every_second, 1.2e9),
                   2 * 1e-6 + (0.6e9 + 0.3e9) / 100e9 + 1e-5 + 2 * 0.1e9 / 10e9);
  // A small sum goes whole in each round.
  EXPECT_DOUBLE_EQ(model.CollectiveSeconds({.rounds = of_16, .whole = true}, all, 1e3),
                   1e-6 + 1e3 / 100e9 + 3 * (1e-5 + 1e3 / 10e9));
  EXPECT_DOUBLE_EQ(TimeModel::BytesSent({.rounds = of_16, .whole = true}, 1e3), 4e3);
}

TEST(TimeModel, RanksOfSeveralDevices) {
  TimeModel two(ClusterOf(), 2);
  EXPECT_DOUBLE_EQ(two.OpSeconds(Count("gelu", 0, 2e9)), 0.5);
  EXPECT_EQ(two.NodeOf(1), 1);
  // On one node, whatever the ranks.
  EXPECT_EQ(TimeModel(ClusterOf("nodes: 1"), 1).NodeOf(7), 0);
}

}  // namespace
}  // namespace trefoil
