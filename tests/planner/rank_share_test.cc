#include "planner/report/rank_share.h"

#include <gmock/gmock.h>

#include "planner/report/ranks_picture.h"
#include "runtime/device.h"
#include "tests/training/run_testing.h"
#include "training/worker.h"

namespace trefoil {
namespace {

using testing::DoubleNear;
using testing::HasSubstr;
using testing::Not;

bool Holds(const std::vector<Part>& parts, double at) {
  return std::any_of(parts.begin(), parts.end(), [at](const Part& part) { return part.begin <= at && at < part.end; });
}

class RankShareTest : public testing::TestWithParam<const char*> {
 protected:
  const RunConfig config_ = TinyRun(NewFolder("run"), GetParam());
};

// As the trainer's own worker has it.
TEST_P(RankShareTest, IsWhatAWorkerHas) {
  for (int rank = 0; rank < RanksOf(config_); ++rank) {
    SCOPED_TRACE(rank);
    const RankShare share = ShareOf(config_, rank);
    const std::unique_ptr<Device> device =
        NewNullDevice({.stands_for = NullDeviceOptions::StandsFor::kCpu, .threads = 1});
    const std::unique_ptr<World> world = NewNullWorld(RanksOf(config_), rank);
    Worker worker(config_, *world, *device);
    const int modules = static_cast<int>(ModulesOf(config_.model()).size());
    for (int module = 0; module < modules; ++module) {
      const bool held = std::find(worker.modules.begin(), worker.modules.end(), module) != worker.modules.end();
      EXPECT_EQ(Holds(share.layers, (module + 0.5) / modules), held) << module;
    }
    for (const BucketMemory& memory : worker.store.buckets()) {
      const auto part = [&](const Tensor& shard, bool split) {
        return split ? static_cast<double>(shard.elements()) / static_cast<double>(memory.bucket.elements) : 1.0;
      };
      EXPECT_DOUBLE_EQ(share.weights.length(), part(memory.weight_shard, memory.split_weights));
      EXPECT_DOUBLE_EQ(share.gradients.length(), part(memory.gradient_shard, memory.split_gradients));
      EXPECT_DOUBLE_EQ(share.optimizer.length(), part(memory.state.front(), true));
      EXPECT_THAT(share.optimizer.begin * static_cast<double>(memory.bucket.elements),
                  DoubleNear(static_cast<double>(memory.shard_begin), 1e-6));
      for (const BucketEntry& entry : memory.bucket.entries) {
        const Parameter& parameter = *entry.parameter;
        if (parameter.splits.empty()) continue;
        const int dim = parameter.splits.front().dim;
        // In whole columns.
        const auto columns = static_cast<double>(parameter.shape[dim]);
        EXPECT_THAT(share.columns.length() * columns, DoubleNear(static_cast<double>(entry.box.extent[dim]), 1));
        EXPECT_THAT(share.columns.begin * columns, DoubleNear(static_cast<double>(entry.box.offset[dim]), 1));
      }
    }
  }
}

// Each token of each sample is on one rank of each stage and tensor rank; what is split of the optimizer's state on one.
TEST_P(RankShareTest, AllTogetherAreTheWhole) {
  const ParallelConfig& parallel = config_.parallel();
  int of_token = 0, of_layers = 0;
  for (int rank = 0; rank < RanksOf(config_); ++rank) {
    const RankShare share = ShareOf(config_, rank);
    of_token += Holds({share.samples}, 0.3) && Holds(share.tokens, 0.7);
    of_layers += Holds(share.layers, 0.3) && Holds({share.columns}, 0.7) && Holds({share.optimizer}, 0.6);
  }
  EXPECT_EQ(of_token, parallel.tensor() * parallel.pipeline());
  EXPECT_EQ(of_layers, parallel.zero() == ParallelConfig::NONE ? parallel.data() * parallel.context() : parallel.replicas());
}

TEST_P(RankShareTest, IsDrawn) {
  const std::string picture = RanksPicture(config_);
  for (int rank = 0; rank < RanksOf(config_); ++rank) {
    EXPECT_THAT(picture, HasSubstr(">rank " + std::to_string(rank) + "<"));
  }
  EXPECT_THAT(picture, Not(HasSubstr("are drawn")));
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, RankShareTest,
    testing::Values("", "parallel { tensor: 2 pipeline: 2 data: 2 sequence_parallel: true }",
                    "parallel { data: 4 zero: NONE }", "parallel { data: 2 zero: GRADIENTS }",
                    "parallel { data: 2 tensor: 2 zero: WEIGHTS }", "parallel { context: 2 data: 2 }",
                    "parallel { data: 4 zero: WEIGHTS replicas: 2 }",
                    "model { layers: 4 } parallel { pipeline: 2 schedule: INTERLEAVED context: 2 }"));

TEST(RanksPictureTest, OfLargeLayoutsTheFirstRanksAreDrawn) {
  const std::string picture =
      RanksPicture(TinyRun(NewFolder("run"), "training { global_batch: 64 } parallel { tensor: 4 data: 16 }"));
  EXPECT_THAT(picture, HasSubstr("4 of 64 ranks are drawn"));
  EXPECT_THAT(picture, HasSubstr(">rank 5<"));
  EXPECT_THAT(picture, Not(HasSubstr(">rank 2<")));
}

}  // namespace
}  // namespace trefoil
