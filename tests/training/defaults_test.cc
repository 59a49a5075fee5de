#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/training/validate_testing.h"

namespace trefoil {
namespace {

using google::protobuf::TextFormat;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

TEST(FillDefaultsTest, GraphsWherePossible) {
  RunConfig config = Changed("parallel { pipeline: 1 data: 1 } runtime { device: CUDA }");
  FillDefaults(&config, 2, {.pays = true});
  EXPECT_EQ(config.runtime().graphs(), RuntimeConfig::ON);
  config = Changed("runtime { device: CUDA }");
  FillDefaults(&config, 8, {.pays = true});
  EXPECT_EQ(config.runtime().graphs(), RuntimeConfig::OFF);
}

TEST(FillDefaultsTest, ReplacesWhatIsUnset) {
  RunConfig config;
  ASSERT_TRUE(TextFormat::ParseFromString("model { family: LLAMA layers: 2 hidden: 288 heads: 6 }"
                                          "parallel { tensor: 2 } training { steps: 5 global_batch: 8 }",
                                          &config));
  FillDefaults(&config, 8, {.pays = true});
  RunConfig expected;
  ASSERT_TRUE(TextFormat::ParseFromString(R"(
      model { family: LLAMA layers: 2 hidden: 288 heads: 6 kv_heads: 6 head_dim: 48 feed_forward: 768
              rope_theta: 10000 norm_epsilon: 1e-5 initial_deviation: 0.02 tied: false qkv_bias: false head: TOKENS pooling: FIRST
              qk_norm: false attention_output_bias: false mlp_bias: false activation: SILU gated: true }
      parallel { tensor: 2 pipeline: 1 data: 4 schedule: ONE_F_ONE_B chunks: 1 zero: OPTIMIZER recompute: NOTHING
                 replicas: 1 context: 1 context_method: RING }
      data { seed: 1234 }
      training { steps: 5 global_batch: 8 micro_batch: 1 seed: 1234 precision: BF16
                 optimizer { learning_rate: 3e-4 final_share: 0.1 beta1: 0.9 beta2: 0.95 epsilon: 1e-8
                             weight_decay: 0.1 clip_norm: 1 schedule: COSINE decay_share: 0.2 }
                 fine_tuning { layer_decay: 1 } checkpoint { keep_last: 2 failed_saves: 10 writing: BACKGROUND memory_folder: "/dev/shm" }
                 evaluate_samples: 256
                 early_stop { by: LOSS } log_every_steps: 1 on_nan: STOP
                 on_nan_limit: 10 }
      runtime { timeout_seconds: 600 startup_timeout_seconds: 3600 save_timeout_seconds: 3600 device: CPU
                bf16_products: NATIVE sums: ORDERED }
      task { kind: NEXT_TOKEN })",
                                          &expected));
  EXPECT_EQ(config.DebugString(), expected.DebugString());
  FillDefaults(&config, 8, {});
  EXPECT_EQ(config.DebugString(), expected.DebugString());
}

TEST(FillDefaultsTest, KeepsWhatIsSet) {
  const std::string text = R"(
      model { family: GPT hidden: 64 heads: 4 kv_heads: 2 head_dim: 8 feed_forward: 100 norm_epsilon: 1e-6
              initial_deviation: 0.1 tied: false qkv_bias: false head: TOKENS pooling: MEAN
              qk_norm: true attention_output_bias: false mlp_bias: false activation: RELU gated: true }
      parallel { tensor: 2 pipeline: 2 data: 3 schedule: INTERLEAVED chunks: 4 zero: NONE recompute: FULL replicas: 1
                 context: 2 context_method: ALL_TO_ALL }
      data { seed: 7 }
      training { micro_batch: 4 seed: 9 precision: FP32
                 optimizer { learning_rate: 1 final_share: 0 beta1: 0 beta2: 0 epsilon: 0 weight_decay: 0 clip_norm: 0
                             schedule: WSD decay_share: 0 }
                 fine_tuning { layer_decay: 0.5 } checkpoint { keep_last: 5 failed_saves: 10 writing: FOREGROUND memory_folder: "/dev/shm" }
                 evaluate_samples: 3
                 early_stop { by: ACCURACY } log_every_steps: 10 on_nan: SKIP
                 on_nan_limit: 3 }
      runtime { timeout_seconds: 5 startup_timeout_seconds: 6 save_timeout_seconds: 7 device: CUDA messages: HOST attention: CUDNN_DETERMINISTIC
                graphs: OFF sums: FASTEST }
      task { kind: ANSWERS })";
  RunConfig config, expected;
  ASSERT_TRUE(TextFormat::ParseFromString(text, &config));
  ASSERT_TRUE(TextFormat::ParseFromString(text, &expected));
  FillDefaults(&config, 8, {.pays = true});
  EXPECT_EQ(config.DebugString(), expected.DebugString());
}

TEST(FillDefaultsTest, DependsOnFamilyScheduleAndHardware) {
  RunConfig config;
  ASSERT_TRUE(TextFormat::ParseFromString("model { family: GPT hidden: 64 heads: 4 } parallel { schedule: INTERLEAVED }"
                                          "training { seed: 5 }", &config));
  FillDefaults(&config, 1, {});
  EXPECT_EQ(config.model().feed_forward(), 256);
  EXPECT_EQ(config.model().rope_theta(), 0);
  EXPECT_EQ(config.parallel().chunks(), 2);
  EXPECT_EQ(config.data().seed(), 5u);
  for (const auto& [schedule, chunks] : {std::pair(ParallelConfig::ZB_H2, 1), std::pair(ParallelConfig::ZB_V, 2),
                                         std::pair(ParallelConfig::DUALPIPE_V, 2), std::pair(ParallelConfig::AUTO, 1)}) {
    RunConfig other;
    other.mutable_parallel()->set_schedule(schedule);
    FillDefaults(&other, 1, {});
    EXPECT_EQ(other.parallel().chunks(), chunks);
  }
  EXPECT_EQ(config.training().precision(), TrainingConfig::FP32);
}

TEST(FillDefaultsTest, AttentionIsCudnnsWhereItCanBe) {
  const auto attention = [](const std::string& changes, bool bf16_hardware = true) {
    RunConfig config = Changed(changes);
    RuntimeConfig* runtime = config.mutable_runtime();
    if (runtime->device() == RuntimeConfig::DEVICE_UNSET) runtime->set_device(RuntimeConfig::CUDA);
    FillDefaults(&config, kRanks, {.pays = bf16_hardware});
    return config.runtime().attention();
  };
  EXPECT_EQ(attention(""), RuntimeConfig::CUDNN);
  EXPECT_EQ(attention("training { compute_twice_every_steps: 100 }"), RuntimeConfig::CUDNN_DETERMINISTIC);
  EXPECT_EQ(attention("training { precision: FP32 }"), RuntimeConfig::OWN);
  EXPECT_EQ(attention("", /*bf16_hardware=*/false), RuntimeConfig::OWN);
  EXPECT_EQ(attention("model { family: GPT dropout: 0.1 }"), RuntimeConfig::OWN);
  EXPECT_EQ(attention("model { head_dim: 20 }"), RuntimeConfig::OWN);
  EXPECT_EQ(attention("model { sequence_length: 1 }"), RuntimeConfig::OWN);
  EXPECT_EQ(attention("model { sliding_window: 4 }"), RuntimeConfig::OWN);
  EXPECT_EQ(attention("model { sliding_window: 100000 }"), RuntimeConfig::CUDNN);
  EXPECT_EQ(attention("runtime { device: CPU }"), RuntimeConfig::ATTENTION_UNSET);
}

// The widths that the published Llama models have.
TEST(ModelDefaultsTest, LlamaFeedForwardAsPublished) {
  for (const auto& [hidden, feed_forward] : {std::pair{4096, 11008}, {5120, 13824}, {6656, 17920}, {8192, 22016}}) {
    ModelConfig model;
    model.set_family(ModelConfig::LLAMA);
    model.set_hidden(hidden);
    ModelDefaults(&model);
    EXPECT_EQ(model.feed_forward(), feed_forward);
  }
}

}  // namespace
}  // namespace trefoil
