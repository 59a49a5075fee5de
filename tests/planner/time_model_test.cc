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
  EXPECT_EQ(model.CollectiveSeconds("AllGather", {3}, 1e9), 0);
  EXPECT_DOUBLE_EQ(model.CollectiveSeconds("AllGather", {0, 1}, 1e9), 1e-6 + 0.5e9 / 100e9);
  // One peer in the node, two beyond: a quarter and a half of the bytes.
  EXPECT_DOUBLE_EQ(model.CollectiveSeconds("ReduceScatterSum", {0, 1, 2, 3}, 1e9), 1e-5 + 0.5e9 / 10e9);
  EXPECT_DOUBLE_EQ(model.CollectiveSeconds("AllReduceSum", {0, 1}, 1e9), 2 * (1e-6 + 0.5e9 / 100e9));
  EXPECT_DOUBLE_EQ(model.MessageSeconds(0, 1, 1e9), 1e-6 + 1e-2);
  EXPECT_DOUBLE_EQ(model.MessageSeconds(1, 2, 1e9), 1e-5 + 1e-1);
  // All-reduce 2 (n-1)/n S, gather and scatter (n-1)/n S.
  EXPECT_DOUBLE_EQ(TimeModel::BytesSent("AllReduceSum", 4, 100), 150);
  EXPECT_DOUBLE_EQ(TimeModel::BytesSent("AllGather", 4, 100), 75);
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
