// Options that change no number but save memory do save it.
#include <string>
#include <vector>

#include "tests/model/model_testing.h"

namespace trefoil {
namespace {

// Wide activations beside few parameters.
constexpr char kModel[] =
    "model { layers: 6 feed_forward: 128 sequence_length: 32 } training { global_batch: 32 micro_batch: 4 } ";

// High-water marks of two steps, per rank.
std::vector<MemoryUse> PeaksOf(const std::string& more) {
  const RunConfig config = TinyRun(ModelConfig::LLAMA, kModel + more);
  std::vector<MemoryUse> peaks(static_cast<size_t>(RanksOf(config)));
  WithWorkers(config, [&](Worker& worker) {
    for (const int step : {1, 2}) CHECK(TrainStep(worker, LearnableTokens(config.model()), step, 0, 1e-3).ok());
    peaks[static_cast<size_t>(worker.mesh.rank())] = worker.device.memory();
  });
  return peaks;
}

double PeakOf(Purpose purpose, const std::string& more) {
  return static_cast<double>(PeaksOf(more)[0].peak[static_cast<size_t>(purpose)]);
}
double Activations(const std::string& more) { return PeakOf(Purpose::kActivations, more); }
double Optimizer(const std::string& more) { return PeakOf(Purpose::kOptimizer, more); }

TEST(MemoryTest, RecomputationSavesActivations) {
  const double all = Activations("");
  EXPECT_LT(Activations("parallel { recompute: SELECTIVE }"), 0.8 * all);
  EXPECT_LT(Activations("parallel { recompute: FULL }"), 0.45 * all);
}

TEST(MemoryTest, TensorAndSequenceParallelismSplitActivations) {
  const double one = Activations(""), tensor = Activations("parallel { tensor: 2 }");
  EXPECT_LT(tensor, 0.85 * one);
  EXPECT_LT(Activations("parallel { tensor: 2 sequence_parallel: true }"), 0.9 * tensor);
}

TEST(MemoryTest, ZeroSplitsOptimizerState) {
  const double whole = Optimizer("parallel { data: 4 zero: NONE }");
  EXPECT_NEAR(Optimizer("parallel { data: 4 }") / whole, 0.25, 0.02);
  // bf16 has master weights too: three floats per parameter instead of two.
  EXPECT_NEAR(Optimizer("parallel { data: 4 zero: NONE } training { precision: BF16 }") / whole, 1.5, 0.01);
}

TEST(MemoryTest, OneFOneBHoldsFewerMicroBatchesThanGPipe) {
  const double gpipe = Activations("parallel { pipeline: 2 schedule: GPIPE }");
  EXPECT_LT(Activations("parallel { pipeline: 2 }"), 0.5 * gpipe);
}

TEST(MemoryTest, BFloat16HalvesActivations) {
  EXPECT_LT(Activations("training { precision: BF16 }"), 0.6 * Activations(""));
}

// A step leaves nothing behind but parameters, gradients and optimizer state.
TEST(MemoryTest, StepsLeaveNothing) {
  for (const char* more : {"", "parallel { pipeline: 2 data: 2 tensor: 2 sequence_parallel: true }"}) {
    const RunConfig config = TinyRun(ModelConfig::GPT, std::string("model { dropout: 0.1 } ") + more);
    WithWorkers(config, [&](Worker& worker) {
      const BatchSource source = LearnableTokens(config.model());
      int64_t after[2] = {};
      for (const int step : {1, 2}) {
        CHECK(TrainStep(worker, source, step, 0, 1e-3).ok());
        CHECK(Evaluate(worker, source, config.training().global_batch()).ok());
        worker.transformer.Begin({});
        after[step - 1] = worker.device.memory().current_total;
        EXPECT_EQ(worker.device.memory().current[static_cast<size_t>(Purpose::kActivations)], 0);
      }
      EXPECT_EQ(after[0], after[1]);
    });
  }
}

}  // namespace
}  // namespace trefoil
