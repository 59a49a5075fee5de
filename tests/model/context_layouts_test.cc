// Ranks that share each sample's tokens (parallel.context) against one rank: both methods, with every other way to
// split a run.
#include "tests/model/layout_testing.h"

namespace trefoil {
namespace {

// Samples of 16 tokens: chunks of two to four.
constexpr char kModel[] =
    "model { layers: 3 kv_heads: 4 heads: 8 head_dim: 4 sequence_length: 16 } training { optimizer { clip_norm: 0 } } ";
constexpr int kSteps = 4;
constexpr Tolerances kBFloat16 = {
    .loss = 1.5e-3, .norm = 1e-2, .gradient = 0.15, .projection = 0.03, .state = 0.3, .noise = 0.02};

constexpr const char* kLayouts[] = {
    "parallel { context: 2 }",
    "parallel { context: 4 }",
    "parallel { context: 8 } training { micro_batch: 2 }",
    "parallel { context: 2 zero: NONE } training { micro_batch: 4 }",
    "parallel { context: 2 data: 2 }",
    "parallel { context: 4 data: 2 zero: NONE } training { micro_batch: 2 }",
    "parallel { context: 2 data: 2 zero: GRADIENTS }",
    "parallel { context: 4 zero: WEIGHTS }",
    "parallel { context: 2 pipeline: 3 data: 2 zero: WEIGHTS recompute: FULL }",
    "parallel { context: 2 tensor: 2 }",
    "parallel { context: 2 tensor: 2 sequence_parallel: true recompute: SELECTIVE }",
    "parallel { context: 4 tensor: 2 sequence_parallel: true } training { micro_batch: 2 }",
    "parallel { context: 2 pipeline: 2 recompute: FULL }",
    "parallel { context: 2 pipeline: 3 data: 2 schedule: GPIPE zero: NONE }",
    "parallel { context: 4 pipeline: 3 schedule: ONE_F_ONE_B }",
    "parallel { context: 2 tensor: 2 pipeline: 3 data: 2 sequence_parallel: true }",
};

class ContextLayoutsTest : public testing::TestWithParam<const char*> {
 protected:
  void Expect(ModelConfig::Family family, const std::string& more,
              const Tolerances& tolerances = {.loss = 1e-5, .norm = 1e-4}) {
    const Trace reference = Train(TinyRun(family, kModel + more), kSteps);
    EXPECT_LT(reference.losses.back(), reference.losses.front());
    Deviation worst;
    int layouts = 0;
    for (const std::string layout : kLayouts) {
      const std::string method = std::string(" parallel { context_method: ") + GetParam() + " }";
      const bool exchanges = std::string(GetParam()) == "ALL_TO_ALL";
      if (exchanges && layout.find("context: 8") != std::string::npos) continue;  // of 4 key/value heads
      if (exchanges && layout.find("context: 4 tensor: 2") != std::string::npos) continue;
      const RunConfig config = TinyRun(family, kModel + more + layout + method);
      SCOPED_TRACE(Describe(config));
      const Trace trace = Train(config, kSteps);
      ExpectSameRun(trace, reference, tolerances);
      worst.Raise(Compare(trace, reference, tolerances.noise));
      ++layouts;
    }
    std::printf("worst deviation of %d layouts: loss %.1e, norm %.1e, state %.1e\n", layouts, worst.loss, worst.norm,
                worst.state);
  }
};

INSTANTIATE_TEST_SUITE_P(Methods, ContextLayoutsTest, testing::Values("RING", "ALL_TO_ALL"),
                         [](const testing::TestParamInfo<const char*>& info) { return info.param; });

TEST_P(ContextLayoutsTest, Gpt) { Expect(ModelConfig::GPT, ""); }
TEST_P(ContextLayoutsTest, Llama) { Expect(ModelConfig::LLAMA, ""); }
TEST_P(ContextLayoutsTest, NormedQueriesAndKeysAndScaledPositions) {
  const std::string model = std::string(kModel) + "model { qk_norm: true attention_output_bias: true rope_scaling { "
                            "kind: YARN factor: 4 original_length: 8 } } ";
  const Trace reference = Train(TinyRun(ModelConfig::LLAMA, model), kSteps);
  for (const char* layout : {"parallel { context: 4 }", "parallel { context: 2 tensor: 2 sequence_parallel: true }"}) {
    SCOPED_TRACE(layout);
    const RunConfig config =
        TinyRun(ModelConfig::LLAMA, model + layout + " parallel { context_method: " + GetParam() + " }");
    ExpectSameRun(Train(config, kSteps), reference, {.loss = 1e-5, .norm = 1e-4});
  }
}
// Narrower than a rank's tokens and wider.
TEST_P(ContextLayoutsTest, SlidingWindows) {
  for (const char* window : {"model { sliding_window: 2 } ", "model { sliding_window: 9 first_window_layer: 1 } "}) {
    const std::string model = std::string(kModel) + window;
    const Trace reference = Train(TinyRun(ModelConfig::LLAMA, model), kSteps);
    for (const char* layout : {"parallel { context: 4 }", "parallel { context: 2 pipeline: 3 }"}) {
      SCOPED_TRACE(testing::Message() << window << layout);
      const RunConfig config =
          TinyRun(ModelConfig::LLAMA, model + layout + " parallel { context_method: " + GetParam() + " }");
      ExpectSameRun(Train(config, kSteps), reference, {.loss = 1e-5, .norm = 1e-4});
    }
  }
}
// Of embeddings, branches and attention's weights: by global token.
TEST_P(ContextLayoutsTest, Dropout) { Expect(ModelConfig::GPT, "model { dropout: 0.2 } "); }
TEST_P(ContextLayoutsTest, LlamaInBFloat16) {
  Expect(ModelConfig::LLAMA, "training { precision: BF16 } ", kBFloat16);
}

// Weights of targets that lie on early tokens, and so on few ranks: the loss is divided by those of all.
TEST_P(ContextLayoutsTest, WeightsOfTargets) {
  const auto weighted = [](const RunConfig& config) {
    const BatchSource tokens = LearnableTokens(config.model());
    return BatchSource(
        [tokens, length = config.model().sequence_length()](int64_t first, int64_t count) -> absl::StatusOr<Batch> {
          absl::StatusOr<Batch> batch = tokens(first, count);
          std::vector<float> weights;
          for (int64_t i = 0; i < count * length; ++i) {
            weights.push_back(i % length < 3 + (first + i / length) % 5 ? 1.0f : 0.0f);
          }
          batch->weights = HostTensor(std::move(weights), {count, length});
          return batch;
        },
        /*weighted=*/true);
  };
  const RunConfig alone = TinyRun(ModelConfig::LLAMA, kModel);
  const Trace reference = Train(alone, kSteps, weighted(alone));
  for (const char* layout :
       {"parallel { context: 4 }", "parallel { context: 2 data: 2 } training { micro_batch: 2 }"}) {
    SCOPED_TRACE(layout);
    const RunConfig config =
        TinyRun(ModelConfig::LLAMA, std::string(kModel) + layout + " parallel { context_method: " + GetParam() + " }");
    ExpectSameRun(Train(config, kSteps, weighted(config)), reference);
  }
}

// The same bits, whatever the timing of ranks.
TEST_P(ContextLayoutsTest, RunsRepeatToTheBit) {
  const RunConfig config =
      TinyRun(ModelConfig::LLAMA,
              std::string(kModel) + "parallel { context: 4 data: 2 context_method: " + GetParam() + " }");
  const Trace a = Train(config, kSteps), b = Train(config, kSteps);
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.norms, b.norms);
  EXPECT_TRUE(a.last == b.last);
}

}  // namespace
}  // namespace trefoil
