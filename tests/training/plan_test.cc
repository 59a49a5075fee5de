#include "training/plan.h"

#include "tests/training/run_testing.h"
#include "training/step.h"

namespace trefoil {
namespace {

// A rank's whole step on the null device, all its micro-batches one after the other.
MemoryUse WholeSteps(const RunConfig& config, int rank) {
  const std::unique_ptr<Device> device =
      NewNullDevice({.stands_for = NullDeviceOptions::StandsFor::kCpu, .threads = 1});
  const std::unique_ptr<World> world = NewNullWorld(RanksOf(config), rank);
  Worker worker(config, *world, *device);
  worker.store.Initialize(1, *worker.data);
  for (const int step : {1, 2, 3}) {
    CHECK(TrainStep(worker, ZerosSource(config.model().sequence_length()), step, 0, 1e-3).ok());
  }
  return device->memory();
}

class FoldTest : public testing::TestWithParam<const char*> {};

// Three micro-batches tell what any number of them takes, to the byte.
TEST_P(FoldTest, IsWhatWholeStepsTake) {
  const RunConfig config = TinyRun(NewFolder("run"), GetParam());
  Planner planner;
  for (int rank = 0; rank < RanksOf(config); ++rank) {
    SCOPED_TRACE(rank);
    const MemoryUse whole = WholeSteps(config, rank), folded = planner.MemoryOf(config, RanksOf(config), rank);
    for (int i = 0; i < kPurposes; ++i) {
      EXPECT_EQ(folded.peak[static_cast<size_t>(i)], whole.peak[static_cast<size_t>(i)]) << Name(static_cast<Purpose>(i));
    }
    EXPECT_EQ(folded.peak_total, whole.peak_total);
    EXPECT_EQ(folded.held, whole.held);
    EXPECT_EQ(folded.current, whole.current);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, FoldTest,
    testing::Values("", "model { family: GPT dropout: 0.1 } training { precision: BF16 micro_batch: 2 }",
                    "training { global_batch: 1 }", "training { global_batch: 2 }", "training { global_batch: 3 }",
                    "training { global_batch: 32 }", "parallel { tensor: 2 }",
                    "parallel { tensor: 2 sequence_parallel: true } training { precision: BF16 }",
                    "parallel { pipeline: 4 }", "parallel { pipeline: 4 } training { global_batch: 24 }",
                    "parallel { pipeline: 2 schedule: GPIPE recompute: FULL }",
                    "parallel { pipeline: 3 schedule: GPIPE } training { global_batch: 16 }",
                    "model { family: GPT } parallel { pipeline: 2 schedule: INTERLEAVED recompute: SELECTIVE }",
                    "parallel { pipeline: 2 chunks: 2 schedule: INTERLEAVED data: 2 } training { global_batch: 32 }",
                    "model { family: GPT } training { precision: FP8 micro_batch: 2 } parallel { tensor: 2 }",
                    "parallel { data: 2 zero: NONE }", "parallel { data: 4 } training { precision: BF16 }",
                    "model { family: GPT } parallel { tensor: 2 pipeline: 2 data: 2 sequence_parallel: true }",
                    "model { vocabulary: 61 layers: 5 } parallel { tensor: 4 pipeline: 2 }"));

}  // namespace
}  // namespace trefoil
