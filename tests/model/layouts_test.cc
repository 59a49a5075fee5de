// The same run on every kind of layout: tensor, pipeline and data ranks, sequence parallelism, schedules, ZeRO stages,
// recomputation, dropout. A representative set; layout_sweep_test.cc has them all.
#include <map>

#include "tests/model/layout_testing.h"

namespace trefoil {
namespace {

// The vocabulary is odd (61), and five layers divide neither by 2 stages nor by 4. kv_heads leaves room for tensor 4.
constexpr char kModel[] =
    "model { layers: 5 kv_heads: 4 heads: 8 head_dim: 4 } training { optimizer { clip_norm: 0 } } ";
constexpr int kSteps = 4;
// Sums over ranks are rounded to bf16, and where they are made depends on the layout: losses within 0.15 %, gradient
// norms within 1 %, each element of the gradient within 15 % of it and of the tensor's root mean square.
// The state after four steps, where small gradients may have changed their sign, within 30 % of how far it has come.
constexpr Tolerances kBFloat16 = {.loss = 1.5e-3, .norm = 1e-2, .gradient = 0.15, .projection = 0.03, .state = 0.3, .noise = 0.02};

constexpr const char* kLayouts[] = {
    "parallel { tensor: 2 }",
    "parallel { tensor: 4 }",
    "parallel { tensor: 2 sequence_parallel: true }",
    "parallel { tensor: 4 sequence_parallel: true recompute: FULL }",
    "parallel { pipeline: 2 schedule: GPIPE }",
    "parallel { pipeline: 4 }",
    "parallel { pipeline: 2 schedule: INTERLEAVED }",
    "parallel { data: 2 zero: NONE }",
    "parallel { data: 4 }",
    "parallel { data: 8 }",
    "parallel { data: 2 } training { micro_batch: 4 }",
    "parallel { tensor: 2 data: 2 sequence_parallel: true zero: NONE recompute: SELECTIVE }",
    "parallel { tensor: 2 data: 2 sequence_parallel: true } training { micro_batch: 2 }",
    "parallel { tensor: 2 pipeline: 2 recompute: FULL }",
    "parallel { pipeline: 2 data: 2 zero: NONE }",
    "parallel { pipeline: 4 data: 2 schedule: GPIPE } training { micro_batch: 2 }",
    "parallel { tensor: 2 pipeline: 2 data: 2 }",
    "parallel { tensor: 2 pipeline: 2 data: 2 sequence_parallel: true schedule: INTERLEAVED }",
    "parallel { tensor: 2 pipeline: 2 data: 2 sequence_parallel: true zero: NONE schedule: GPIPE recompute: FULL }",
    "parallel { tensor: 4 pipeline: 2 sequence_parallel: true schedule: INTERLEAVED recompute: SELECTIVE }",
    "parallel { pipeline: 4 schedule: ZB_H1 }",
    "parallel { tensor: 2 pipeline: 2 data: 2 sequence_parallel: true schedule: ZB_H2 recompute: SELECTIVE }",
    "parallel { pipeline: 2 schedule: ZB_V }",
    "parallel { tensor: 2 pipeline: 2 sequence_parallel: true schedule: DUALPIPE_V recompute: FULL }",
    "parallel { pipeline: 2 data: 2 schedule: DUALPIPE_V zero: NONE }",
    "parallel { pipeline: 2 chunks: 2 schedule: AUTO }",
};

class LayoutsTest : public testing::Test {
 protected:
  static void ExpectLayouts(ModelConfig::Family family, const std::string& more, const Tolerances& tolerances = {}) {
    const Trace reference = Train(TinyRun(family, kModel + more), kSteps);
    EXPECT_LT(reference.losses.back(), reference.losses.front());
    Deviation worst;
    for (const char* layout : kLayouts) {
      const RunConfig config = TinyRun(family, kModel + more + layout);
      SCOPED_TRACE(Describe(config));
      const Trace trace = Train(config, kSteps);
      ExpectSameRun(trace, reference, tolerances);
      worst.Raise(Compare(trace, reference, tolerances.noise));
    }
    std::printf("worst deviation of %zu layouts: loss %.1e, norm %.1e, state %.1e\n", std::size(kLayouts), worst.loss,
                worst.norm, worst.state);
  }
};

// With as many groups of micro-batches, gradients are added in one order whatever the number of data ranks: not the
// numbers alone, but their bits, of losses, norms, weights and moments.
TEST_F(LayoutsTest, EveryDataSizeGivesTheSameBits) {
  for (const auto family : {ModelConfig::GPT, ModelConfig::LLAMA}) {
    for (const char* more : {"training { gradient_groups: 8 optimizer { clip_norm: 0.5 } }",
                             "training { gradient_groups: 4 micro_batch: 2 } model { dropout: 0.1 }",
                             "training { gradient_groups: 8 global_batch: 24 }",
                             "training { gradient_groups: 8 } parallel { tensor: 2 sequence_parallel: true }",
                             "training { gradient_groups: 8 } parallel { pipeline: 2 }"}) {
      if (family == ModelConfig::LLAMA && std::string(more).find("dropout") != std::string::npos) continue;
      SCOPED_TRACE(more);
      const std::string base = std::string("model { layers: 3 kv_heads: 4 heads: 8 head_dim: 4 } ") + more;
      const RunConfig alone = TinyRun(family, base + " parallel { data: 1 }");
      const Trace reference = Train(alone, 3);
      for (const char* layout : {"parallel { data: 1 zero: NONE }", "parallel { data: 2 }", "parallel { data: 4 }",
                                 "parallel { data: 4 zero: NONE }", "parallel { data: 8 }"}) {
        if (std::string(layout).find("8") != std::string::npos && alone.training().gradient_groups() < 8) continue;
        const RunConfig config = TinyRun(family, base + " " + layout);
        SCOPED_TRACE(layout);
        const Trace trace = Train(config, 3);
        EXPECT_EQ(trace.losses, reference.losses);
        EXPECT_EQ(trace.norms, reference.norms);
        EXPECT_EQ(trace.held_out, reference.held_out);
        for (const auto& [name, values] : reference.first) {
          EXPECT_TRUE(trace.first.at(name) == values) << name << " after a step";
          EXPECT_TRUE(trace.last.at(name) == reference.last.at(name)) << name << " at the end";
        }
      }
    }
  }
}

TEST_F(LayoutsTest, Gpt) { ExpectLayouts(ModelConfig::GPT, ""); }
TEST_F(LayoutsTest, Llama) { ExpectLayouts(ModelConfig::LLAMA, ""); }
// The recipes of Qwen2.5 1.5B and of a GPT without what the family has by default.
TEST_F(LayoutsTest, LlamaTiedWithQkvBiases) {
  ExpectLayouts(ModelConfig::LLAMA, "model { tied: true qkv_bias: true } ");
}
TEST_F(LayoutsTest, GptUntiedWithoutQkvBiases) {
  const std::string model = "model { tied: false qkv_bias: false } ";
  const Trace reference = Train(TinyRun(ModelConfig::GPT, model), kSteps);
  for (const char* layout : {"parallel { tensor: 2 pipeline: 3 }", "parallel { pipeline: 2 data: 2 }",
                             "parallel { tensor: 2 data: 2 sequence_parallel: true }"}) {
    SCOPED_TRACE(layout);
    ExpectSameRun(Train(TinyRun(ModelConfig::GPT, model + layout), kSteps), reference);
  }
}
// Those of Qwen3 and Llama 3.1, and all biases.
TEST_F(LayoutsTest, NormedQueriesAndKeysAndOtherOptions) {
  const std::string qwen3 =
      "model { layers: 3 kv_heads: 4 heads: 8 head_dim: 4 qk_norm: true tied: true attention_output_bias: true "
      "mlp_bias: true rope_scaling { kind: LLAMA3 factor: 8 original_length: 16 } } ";
  for (const auto& [family, model] :
       {std::pair(ModelConfig::LLAMA, qwen3),
        std::pair(ModelConfig::GPT, std::string("model { qk_norm: true activation: SILU gated: true sliding_window: 3 "
                                                "first_window_layer: 2 } "))}) {
    const Trace reference = Train(TinyRun(family, model), kSteps);
    EXPECT_LT(reference.losses.back(), reference.losses.front());
    for (const char* layout : {"parallel { tensor: 4 pipeline: 2 schedule: ZB_H1 }",
                               "parallel { tensor: 2 data: 2 sequence_parallel: true zero: WEIGHTS recompute: FULL }",
                               "parallel { tensor: 2 pipeline: 2 sequence_parallel: true recompute: SELECTIVE }"}) {
      const RunConfig config = TinyRun(family, model + layout);
      SCOPED_TRACE(Describe(config));
      ExpectSameRun(Train(config, kSteps), reference);
    }
  }
}
TEST_F(LayoutsTest, GptWithDropout) { ExpectLayouts(ModelConfig::GPT, "model { dropout: 0.2 } "); }

TEST_F(LayoutsTest, GptInBFloat16) {
  ExpectLayouts(ModelConfig::GPT, "training { precision: BF16 } ", kBFloat16);
}
TEST_F(LayoutsTest, LlamaInBFloat16) {
  ExpectLayouts(ModelConfig::LLAMA, "training { precision: BF16 } ", kBFloat16);
}

// One block per virtual stage; the first and the last have the embedding and the head besides.
TEST_F(LayoutsTest, OneLayerPerStage) {
  const std::string model = "model { layers: 4 } ";
  const Trace reference = Train(TinyRun(ModelConfig::GPT, model), kSteps);
  for (const char* layout : {"parallel { pipeline: 4 }", "parallel { pipeline: 2 schedule: INTERLEAVED }"}) {
    SCOPED_TRACE(layout);
    ExpectSameRun(Train(TinyRun(ModelConfig::GPT, model + layout), kSteps), reference);
  }
}

// Clipping scales by the norm of the whole model, whatever a rank holds of it.
TEST_F(LayoutsTest, Clipping) {
  const std::string clip = "training { optimizer { clip_norm: 0.5 learning_rate: 1e-2 } } ";
  const Trace reference = Train(TinyRun(ModelConfig::GPT, clip), kSteps);
  EXPECT_GT(reference.norms.front(), 1);
  for (const char* layout : {"parallel { tensor: 2 pipeline: 3 }", "parallel { tensor: 2 data: 2 zero: NONE }",
                             "parallel { tensor: 2 data: 4 sequence_parallel: true }"}) {
    SCOPED_TRACE(layout);
    ExpectSameRun(Train(TinyRun(ModelConfig::GPT, clip + layout), kSteps), reference);
  }
}

// The same layout twice: the same bits, whatever the timing of threads.
TEST_F(LayoutsTest, RunsRepeatToTheBit) {
  for (const char* precision : {"FP32", "BF16"}) {
    const RunConfig config = TinyRun(
        ModelConfig::GPT, std::string("training { precision: ") + precision + " } model { dropout: 0.1 } " +
                              "parallel { tensor: 2 pipeline: 2 data: 2 sequence_parallel: true }");
    const Trace a = Train(config, kSteps), b = Train(config, kSteps);
    EXPECT_EQ(a.losses, b.losses) << precision;
    EXPECT_EQ(a.norms, b.norms) << precision;
    EXPECT_EQ(a.held_out, b.held_out) << precision;
    EXPECT_TRUE(a.first == b.first) << precision;
  }
}

// A loss that is not finite stops the step on every rank, with the parameters as they were.
TEST_F(LayoutsTest, LossThatIsNotFinite) {
  const RunConfig config = TinyRun(ModelConfig::GPT, "parallel { tensor: 2 pipeline: 2 data: 2 }");
  WithWorkers(config, [&](Worker& worker) {
    // One data rank's last stage breaks.
    const bool breaks = worker.role.reads_targets && worker.mesh.index(Axis::kData) == 1;
    if (breaks) {
      const Tensor norm = worker.store.Weight({"head.norm.weight"});
      Set(worker.device, norm, Values(static_cast<size_t>(norm.elements()), NAN));
    }
    const auto weights = [&] {
      Values all;
      for (const BucketMemory& memory : worker.store.buckets()) {
        for (const double value : Get(worker.device, memory.weights)) {
          if (!std::isnan(value)) all.push_back(value);
        }
      }
      return all;
    };
    const Values before = weights();
    const auto result = TrainStep(worker, LearnableTokens(config.model()), 7, 0, 1e-3);
    ASSERT_FALSE(result.ok());
    EXPECT_NE(result.status().message().find("step 7: the loss is"), std::string::npos) << result.status();
    EXPECT_EQ(weights(), before);
  });
}

// A batch that one rank cannot read fails on all of them, with the same message, and none waits for ever.
TEST_F(LayoutsTest, BatchThatOneRankCannotRead) {
  const RunConfig config = TinyRun(ModelConfig::LLAMA, "parallel { tensor: 2 pipeline: 2 data: 2 }");
  WithWorkers(config, [&](Worker& worker) {
    const BatchSource good = LearnableTokens(config.model());
    const BatchSource bad = [&](int64_t first, int64_t count) -> absl::StatusOr<Batch> {
      if (worker.mesh.rank() == 5) return absl::DataLossError("token file: byte 17 is broken");
      return good(first, count);
    };
    const auto result = TrainStep(worker, bad, 1, 0, 1e-3);
    ASSERT_FALSE(result.ok());
    EXPECT_NE(result.status().message().find("byte 17 is broken"), std::string::npos) << result.status();
    EXPECT_TRUE(TrainStep(worker, good, 1, 0, 1e-3).ok());
  });
}

}  // namespace
}  // namespace trefoil
