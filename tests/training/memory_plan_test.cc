#include "training/memory_plan.h"

#include <algorithm>
#include <mutex>

#include "tests/training/run_testing.h"
#include "training/step.h"

namespace trefoil {
namespace {

constexpr Purpose kExact[] = {Purpose::kWeights, Purpose::kGradients, Purpose::kOptimizer, Purpose::kActivations};

class MemoryPlanTest : public testing::TestWithParam<const char*> {};

// What the null device counts is what a device that computes needs, byte for byte; scratch of the kernels is not
// planned, and neither is what happens to overlap in time.
TEST_P(MemoryPlanTest, IsWhatTrainingTakes) {
  const RunConfig config = TinyRun(NewFolder("run"), GetParam());
  const MemoryPlan plan = PlanMemory(config, RanksOf(config));
  EXPECT_EQ(plan.use.peak[static_cast<size_t>(Purpose::kWorkspace)], 0);
  MemoryUse found;
  int64_t most = 0;
  std::mutex mutex;
  RunRanksAsThreads(RanksOf(config), [&](World& world) {
    const std::unique_ptr<Device> device = NewCpuDevice(1);
    Worker worker(config, world, *device);
    worker.store.Initialize(1, *worker.data);
    for (int step = 1; step <= 3; ++step) {
      ASSERT_TRUE(TrainStep(worker, ZerosSource(config.model().sequence_length()), step, 0, 1e-3).ok());
    }
    const MemoryUse use = device->memory();
    const std::lock_guard lock(mutex);
    if (world.rank() == plan.rank) found = use;
    most = std::max(most, use.peak_total - use.peak[static_cast<size_t>(Purpose::kWorkspace)]);
  });
  for (const Purpose purpose : kExact) {
    const auto i = static_cast<size_t>(purpose);
    EXPECT_EQ(plan.use.peak[i], found.peak[i]) << Name(purpose) << " of rank " << plan.rank;
  }
  // Where gradients are reduced over the data ranks while other messages are under way, the buffers of both.
  const auto communication = static_cast<size_t>(Purpose::kCommunication);
  const int64_t overlap = config.parallel().data() > 1 ? plan.use.peak[communication] : 0;
  EXPECT_GE(found.peak[communication], plan.use.peak[communication]);
  EXPECT_LE(found.peak[communication], plan.use.peak[communication] + overlap);
  const int64_t scratch = found.peak[static_cast<size_t>(Purpose::kWorkspace)];
  EXPECT_LE(found.peak_total, plan.use.peak_total + overlap + scratch);
  EXPECT_LE(most, plan.use.peak_total + overlap + scratch) << "another rank needs more";
  // Whenever asked.
  for (int i = 0; i < 5; ++i) EXPECT_EQ(PlanMemory(config, RanksOf(config)).use.peak, plan.use.peak);
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, MemoryPlanTest,
    testing::Values("", "model { family: GPT dropout: 0.1 } training { precision: BF16 micro_batch: 2 }",
                    "parallel { tensor: 2 }",
                    "parallel { tensor: 2 sequence_parallel: true } training { precision: BF16 }",
                    "parallel { pipeline: 4 }", "parallel { pipeline: 2 schedule: GPIPE recompute: FULL }",
                    "model { family: GPT } parallel { pipeline: 2 schedule: INTERLEAVED recompute: SELECTIVE }",
                    "model { family: GPT } training { precision: FP8 micro_batch: 2 } parallel { tensor: 2 }",
                    "training { precision: FP8 micro_batch: 2 } parallel { recompute: SELECTIVE }",
                    "parallel { data: 2 zero: NONE }", "parallel { data: 4 } training { precision: BF16 }",
                    "model { family: GPT } parallel { tensor: 2 pipeline: 2 data: 2 sequence_parallel: true }"));

TEST(MemoryPlan, IsOfTheRankThatNeedsMost) {
  // The first stage keeps the most micro-batches in flight; the last one, whose logits are wide, the largest.
  const RunConfig deep = TinyRun(NewFolder("deep"), "parallel { tensor: 2 pipeline: 2 }");
  EXPECT_EQ(PlanMemory(deep, 4).rank, 0);
  const RunConfig wide = TinyRun(
      NewFolder("wide"), "model { vocabulary: 4001 } parallel { tensor: 2 pipeline: 2 } training { micro_batch: 4 }");
  EXPECT_EQ(PlanMemory(wide, 4).rank, 2);
}

TEST(MemoryPlan, ShowsWhatLayoutsSave) {
  const RunConfig config = TinyRun(NewFolder("run"), "training { precision: BF16 }");
  const auto planned = [&](const char* more, Purpose purpose) {
    const RunConfig other = With(config, more);
    return PlanMemory(other, RanksOf(other)).use.peak[static_cast<size_t>(purpose)];
  };
  EXPECT_EQ(planned("parallel { data: 4 zero: NONE }", Purpose::kOptimizer),
            4 * planned("parallel { data: 4 zero: OPTIMIZER }", Purpose::kOptimizer));
  EXPECT_LT(planned("parallel { recompute: FULL }", Purpose::kActivations), planned("", Purpose::kActivations) / 2);
  EXPECT_LT(planned("parallel { tensor: 2 }", Purpose::kWeights), planned("", Purpose::kWeights) * 6 / 10);
}

}  // namespace
}  // namespace trefoil
