// ZeRO stages 2 and 3 on every kind of layout against one rank: with tensor and pipeline ranks, schedules, recomputation,
// several micro-batches, tied matrices, dropout; and what they keep in memory.
#include "parallel/bucket_slots.h"
#include "tests/model/layout_testing.h"
#include "tests/parallel/fold_schedule.h"

namespace trefoil {
namespace {

constexpr char kModel[] =
    "model { layers: 5 kv_heads: 4 heads: 8 head_dim: 4 } training { optimizer { clip_norm: 0 } } ";
constexpr int kSteps = 4;

constexpr const char* kLayouts[] = {
    "data: 2",
    "data: 4",
    "data: 8",
    "data: 2 recompute: FULL",
    "data: 3",
    "tensor: 2 data: 2",
    "tensor: 2 data: 4 sequence_parallel: true recompute: SELECTIVE",
    "tensor: 4 data: 2 sequence_parallel: true recompute: FULL",
    "pipeline: 2 data: 2",
    "pipeline: 2 data: 2 schedule: GPIPE",
    "pipeline: 2 data: 2 schedule: INTERLEAVED recompute: FULL",
    "pipeline: 4 data: 2 recompute: SELECTIVE",
    "tensor: 2 pipeline: 2 data: 2 sequence_parallel: true schedule: INTERLEAVED",
    "tensor: 2 pipeline: 2 data: 2 sequence_parallel: true schedule: GPIPE recompute: FULL",
};

std::string With(const std::string& layout, const char* zero) {
  // 12 samples divide by 3 ranks.
  const std::string batch = layout == "data: 3" ? "training { global_batch: 12 } " : "";
  return batch + "parallel { " + layout + (*zero != 0 ? std::string(" zero: ") + zero : "") + " } ";
}

void ExpectLayouts(ModelConfig::Family family, const std::string& more, const Tolerances& tolerances = {}) {
  const Trace reference = Train(TinyRun(family, kModel + more), kSteps);
  const Trace of_12 = Train(TinyRun(family, kModel + more + "training { global_batch: 12 } "), kSteps);
  Deviation worst;
  for (const char* zero : {"GRADIENTS", "WEIGHTS"}) {
    for (const char* layout : kLayouts) {
      const RunConfig config = TinyRun(family, kModel + more + With(layout, zero));
      SCOPED_TRACE(Describe(config));
      const Trace trace = Train(config, kSteps);
      const Trace& expected = config.training().global_batch() == 12 ? of_12 : reference;
      ExpectSameRun(trace, expected, tolerances);
      worst.Raise(Compare(trace, expected, tolerances.noise));
    }
  }
  std::printf("worst deviation of %zu layouts: loss %.1e, norm %.1e\n", 2 * std::size(kLayouts), worst.loss,
              worst.norm);
}

TEST(ZeroLayouts, Gpt) { ExpectLayouts(ModelConfig::GPT, ""); }
TEST(ZeroLayouts, Llama) { ExpectLayouts(ModelConfig::LLAMA, ""); }
TEST(ZeroLayouts, LlamaTied) { ExpectLayouts(ModelConfig::LLAMA, "model { tied: true } "); }
TEST(ZeroLayouts, GptUntiedWithDropout) {
  ExpectLayouts(ModelConfig::GPT, "model { tied: false dropout: 0.2 } training { micro_batch: 1 } ");
}
TEST(ZeroLayouts, GptInBFloat16) {
  ExpectLayouts(ModelConfig::GPT, "training { precision: BF16 } ",
                {.loss = 1.5e-3, .norm = 1e-2, .gradient = 0.15, .projection = 0.03, .state = 0.3, .noise = 0.02});
}

// With one micro-batch on each rank nothing is added in another order than in the other stages.
TEST(ZeroLayouts, OfOneMicroBatchTheBitsOfOtherStages) {
  for (const char* layout : {"data: 2", "data: 4 recompute: FULL"}) {
    const std::string batch =
        std::string("training { micro_batch: ") + (std::string(layout) == "data: 2" ? "4" : "2") + " } ";
    const Trace reference = Train(TinyRun(ModelConfig::GPT, kModel + batch + With(layout, "OPTIMIZER")), kSteps);
    for (const char* zero : {"GRADIENTS", "WEIGHTS"}) {
      SCOPED_TRACE(testing::Message() << layout << " " << zero);
      const Trace trace = Train(TinyRun(ModelConfig::GPT, kModel + batch + With(layout, zero)), kSteps);
      EXPECT_EQ(trace.losses, reference.losses);
      EXPECT_EQ(trace.norms, reference.norms);
      EXPECT_EQ(trace.held_out, reference.held_out);
      EXPECT_TRUE(trace.last == reference.last);
    }
  }
}

// Shares of a part of the data ranks, in several copies. A binary tree over two ranks and then over two copies is that
// over four.
TEST(ZeroLayouts, InReplicas) {
  const Trace reference = Train(TinyRun(ModelConfig::GPT, kModel), kSteps);
  const Trace whole = Train(TinyRun(ModelConfig::GPT, std::string(kModel) + With("data: 4", "OPTIMIZER")), kSteps);
  for (const char* zero : {"OPTIMIZER", "GRADIENTS", "WEIGHTS"}) {
    for (const char* layout : {"data: 4 replicas: 2", "data: 4 replicas: 4", "data: 8 replicas: 2",
                               "tensor: 2 data: 4 replicas: 2 sequence_parallel: true",
                               "pipeline: 2 data: 4 replicas: 2 schedule: INTERLEAVED recompute: FULL"}) {
      SCOPED_TRACE(testing::Message() << zero << " " << layout);
      const Trace trace = Train(TinyRun(ModelConfig::GPT, kModel + With(layout, zero)), kSteps);
      ExpectSameRun(trace, reference);
      if (std::string(layout) == "data: 4 replicas: 2" && std::string(zero) == "OPTIMIZER") {
        EXPECT_EQ(trace.losses, whole.losses);
        EXPECT_TRUE(trace.last == whole.last);
      }
    }
  }
}

// Both ends of the model on one stage, and weight gradients that wait.
TEST(ZeroLayouts, OnAFold) {
  const std::string model = "model { layers: 6 } training { micro_batch: 1 optimizer { clip_norm: 0 } } ";
  for (const ModelConfig::Family family : {ModelConfig::GPT, ModelConfig::LLAMA}) {
    const Trace reference = Train(TinyRun(family, model), kSteps);
    for (const char* zero : {"GRADIENTS", "WEIGHTS"}) {
      for (const bool divided : {false, true}) {
        SCOPED_TRACE(testing::Message() << family << " " << zero << (divided ? " divided" : ""));
        const RunConfig run = TinyRun(family, model + With("pipeline: 2 data: 2", zero));
        const Trace trace = Train(run, kSteps, {}, [&](const RunConfig& config, World& world, Device& device) {
          const Mesh mesh(MeshSizes(config.parallel()), world.rank());
          const int stages = mesh.size(Axis::kPipeline), stage = mesh.index(Axis::kPipeline);
          return std::make_unique<Worker>(config, world, device, FoldOf(stages),
                                          FoldSchedule(stages, 4, divided)[static_cast<size_t>(stage)]);
        });
        ExpectSameRun(trace, reference);
      }
    }
  }
}

// What a rank keeps, by the formula: of n parameters on d ranks, w bytes each in the working dtype, w n / d of weights and
// 4 n / d of gradients where they are split; and the slots.
TEST(ZeroLayouts, KeepSharesAndSlots) {
  for (const char* zero : {"OPTIMIZER", "GRADIENTS", "WEIGHTS"}) {
    for (const char* precision : {"FP32", "BF16"}) {
      SCOPED_TRACE(testing::Message() << zero << " " << precision);
      const RunConfig config = TinyRun(
          ModelConfig::LLAMA, std::string("model { layers: 12 hidden: 32 } training { global_batch: 8 precision: ") +
                                  precision + " } " + With("data: 4", zero));
      const bool weights_split = config.parallel().zero() == ParallelConfig::WEIGHTS;
      const bool gradients_split = config.parallel().zero() >= ParallelConfig::GRADIENTS;
      WithWorkers(config, [&](Worker& worker) {
        ASSERT_TRUE(TrainStep(worker, LearnableTokens(worker.config.model()), 1, 0, 1e-3).ok());
        int64_t n = 0;
        std::vector<Bucket> buckets;
        for (const BucketMemory& memory : worker.store.buckets()) {
          n += memory.bucket.elements;
          buckets.push_back(memory.bucket);
        }
        // Two of the blocks, and of embedding and head the larger.
        const BucketSlots slots = SlotsFor(buckets, std::vector<bool>(buckets.size(), true));
        ASSERT_EQ(slots.kinds.size(), 2u);
        int64_t of_slots = 0;
        for (const BucketSlots::Kind& kind : slots.kinds) of_slots += kind.elements * kind.count;
        EXPECT_LT(of_slots, n / 3);
        const int64_t w = config.training().precision() == TrainingConfig::BF16 ? 2 : 4;
        const auto peak = [&](Purpose purpose) { return worker.device.memory().peak[static_cast<size_t>(purpose)]; };
        EXPECT_EQ(peak(Purpose::kWeights), w * (weights_split ? n / 4 + of_slots : n));
        EXPECT_EQ(peak(Purpose::kGradients), 4 * (gradients_split ? n / 4 + of_slots : n));
        EXPECT_EQ(peak(Purpose::kOptimizer), (w == 2 ? 12 : 8) * (n / 4));
      });
    }
  }
}

}  // namespace
}  // namespace trefoil
