#include "training/config/idle_options.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "training/config/validate.h"

namespace trefoil {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string> Idle(const std::string& text) {
  RunConfig given;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &given)) << text;
  RunConfig filled = given;
  FillDefaults(&filled, /*ranks=*/2, {});
  return IdleOptions(given, filled);
}

TEST(IdleOptionsTest, WhatIsNotGivenIsNotSaid) {
  EXPECT_THAT(Idle(""), IsEmpty());
  EXPECT_THAT(Idle("runtime { device: CUDA } training { optimizer { schedule: CONSTANT } }"), IsEmpty());
}

TEST(IdleOptionsTest, EvaluationNeedsHeldOutText) {
  EXPECT_THAT(Idle("training { evaluate_every_steps: 1000 evaluate_samples: 8 }"),
              ElementsAre("training.evaluate_every_steps: 1000 has no effect without data.held_out",
                          "training.evaluate_samples: 8 has no effect without data.held_out"));
  EXPECT_THAT(Idle("training { evaluate_every_steps: 1000 evaluate_samples: 8 } data { held_out: 'x' }"), IsEmpty());
  EXPECT_THAT(Idle("data { train: 'x' weights: 0.5 }"), ElementsAre("data.weights: 0.5 has no effect with one entry of data.train"));
  EXPECT_THAT(Idle("data { train: 'x' train: 'y' weights: 0.5 weights: 1 }"), IsEmpty());
}

TEST(IdleOptionsTest, SharesBelongToSchedules) {
  EXPECT_THAT(Idle("training { optimizer { decay_share: 0.5 } }"),
              ElementsAre("training.optimizer.decay_share: 0.5 has no effect with schedule COSINE, only with WSD"));
  EXPECT_THAT(Idle("training { optimizer { decay_share: 0.5 schedule: WSD } }"), IsEmpty());
  EXPECT_THAT(Idle("training { optimizer { final_share: 0.25 schedule: CONSTANT } }"),
              ElementsAre("training.optimizer.final_share: 0.25 has no effect with schedule CONSTANT"));
  EXPECT_THAT(Idle("training { optimizer { final_share: 0.25 schedule: INVERSE_SQRT warmup_steps: 1 } }"),
              ElementsAre("training.optimizer.final_share: 0.25 has no effect with schedule INVERSE_SQRT"));
  EXPECT_THAT(Idle("training { optimizer { final_share: 0.25 schedule: LINEAR } }"), IsEmpty());
}

TEST(IdleOptionsTest, ZeroSplitsOverDataRanks) {
  EXPECT_THAT(Idle("parallel { tensor: 2 zero: WEIGHTS }"),
              ElementsAre("parallel.zero: WEIGHTS has no effect with parallel.data 1"));
  EXPECT_THAT(Idle("parallel { zero: GRADIENTS replicas: 2 }"), IsEmpty());
  EXPECT_THAT(Idle("parallel { zero: NONE replicas: 2 }"),
              ElementsAre("parallel.replicas: 2 has no effect with parallel.zero NONE"));
}

TEST(IdleOptionsTest, AdaptersHaveARank) {
  EXPECT_THAT(Idle("model { lora { alpha: 16 on: QUERY } }"),
              ElementsAre("model.lora.alpha: 16 has no effect without model.lora.rank",
                          "model.lora.on: QUERY has no effect without model.lora.rank"));
  EXPECT_THAT(Idle("model { lora { rank: 2 alpha: 16 on: QUERY } }"), IsEmpty());
}

TEST(IdleOptionsTest, AnEarlyStopNeedsEvaluations) {
  EXPECT_THAT(
      Idle("model { family: BERT } training { evaluate_every_steps: 2 early_stop { evaluations: 3 by: ACCURACY } }"),
      ElementsAre("training.evaluate_every_steps: 2 has no effect without data.held_out",
                  "training.early_stop.evaluations: 3 has no effect without data.held_out"));
  EXPECT_THAT(Idle("model { family: BERT } data { held_out: 'x' } training { early_stop { by: ACCURACY } }"),
              ElementsAre("training.early_stop.by: ACCURACY has no effect without early_stop.evaluations"));
}

TEST(IdleOptionsTest, OnlySkippedStepsAreCounted) {
  EXPECT_THAT(Idle("training { on_nan_limit: 3 }"),
              ElementsAre("training.on_nan_limit: 3 has no effect without on_nan SKIP"));
  EXPECT_THAT(Idle("training { on_nan: SKIP on_nan_limit: 3 }"), IsEmpty());
}

TEST(IdleOptionsTest, SequenceParallelNeedsTheTensorAxis) {
  EXPECT_THAT(Idle("parallel { sequence_parallel: true }"),
              ElementsAre("parallel.sequence_parallel: true has no effect with parallel.tensor 1"));
  EXPECT_THAT(Idle("parallel { sequence_parallel: true tensor: 2 }"), IsEmpty());
}

TEST(IdleOptionsTest, MethodsNeedTheContextAxis) {
  EXPECT_THAT(Idle("parallel { context_method: ALL_TO_ALL }"),
              ElementsAre("parallel.context_method: ALL_TO_ALL has no effect with parallel.context 1"));
  EXPECT_THAT(Idle("parallel { context_method: ALL_TO_ALL context: 2 }"), IsEmpty());
}

TEST(IdleOptionsTest, OneRankAddsNothingUp) {
  EXPECT_THAT(Idle("runtime { sums: FASTEST } parallel { data: 1 }"),
              ElementsAre("runtime.sums: FASTEST has no effect on one rank"));
  EXPECT_THAT(Idle("runtime { sums: FASTEST }"), IsEmpty());
}

TEST(IdleOptionsTest, Bf16ProductsAreOfBf16OnCpus) {
  EXPECT_THAT(Idle("runtime { bf16_products: NATIVE } training { precision: FP32 }"),
              ElementsAre("runtime.bf16_products: NATIVE has no effect with training.precision FP32"));
  EXPECT_THAT(Idle("runtime { bf16_products: FLOAT32 device: CUDA } training { precision: BF16 }"),
              ElementsAre("runtime.bf16_products: FLOAT32 has no effect with runtime.device CUDA"));
  EXPECT_THAT(Idle("runtime { bf16_products: FLOAT32 } training { precision: BF16 }"), IsEmpty());
}

TEST(IdleOptionsTest, EachTaskHasItsOptions) {
  EXPECT_THAT(Idle("model { family: GPT pooling: MEAN } task { mask_rate: 0.5 whole_words: true mean_span: 2 class_names: 'a' examples: 9 "
                   "crop: 0.5 crop_padding: 2 flip: true pixel_mean: 0.5 pixel_deviation: 0.5 }"),
              ElementsAre("model.pooling: MEAN has no effect with task.kind NEXT_TOKEN",
                          "task.mask_rate: 0.5 has no effect with task.kind NEXT_TOKEN",
                          "task.whole_words: true has no effect with task.kind NEXT_TOKEN",
                          "task.mean_span: 2 has no effect with task.kind NEXT_TOKEN",
                          "task.class_names: a has no effect with task.kind NEXT_TOKEN",
                          "task.examples: 9 has no effect with task.kind NEXT_TOKEN",
                          "task.crop: 0.5 has no effect with task.kind NEXT_TOKEN",
                          "task.crop_padding: 2 has no effect with task.kind NEXT_TOKEN",
                          "task.flip: true has no effect with task.kind NEXT_TOKEN",
                          "task.pixel_mean: 0.5 has no effect with task.kind NEXT_TOKEN",
                          "task.pixel_deviation: 0.5 has no effect with task.kind NEXT_TOKEN"));
  EXPECT_THAT(Idle("model { family: BERT } task { kind: TEXT_VALUE label_smoothing: 0.5 }"),
              ElementsAre("task.label_smoothing: 0.5 has no effect with task.kind TEXT_VALUE"));
  EXPECT_THAT(Idle("model { family: BERT } task { mask_rate: 0.5 whole_words: true label_smoothing: 0.1 }"), IsEmpty());
  EXPECT_THAT(Idle("model { family: VIT pooling: MEAN } task { crop: 0.5 flip: true examples: 9 }"), IsEmpty());
}

TEST(IdleOptionsTest, RecurrentNetworksHaveNoHeads) {
  EXPECT_THAT(Idle("model { family: LSTM heads: 4 kv_heads: 2 head_dim: 8 feed_forward: 64 norm_epsilon: 1 } "
                   "parallel { recompute: FULL }"),
              ElementsAre("model.heads: 4 has no effect with model.family LSTM",
                          "model.kv_heads: 2 has no effect with model.family LSTM",
                          "model.head_dim: 8 has no effect with model.family LSTM",
                          "model.feed_forward: 64 has no effect with model.family LSTM",
                          "model.norm_epsilon: 1 has no effect with model.family LSTM",
                          "parallel.recompute: FULL has no effect with model.family LSTM"));
}

TEST(IdleOptionsTest, TimesAreForASearch) {
  const std::string search =
      "schedule_search { forward: [1, 2] backward_input: [3, 4] backward_weight: [5, 6] message: 0.5 in_flight: 7 }";
  EXPECT_THAT(Idle("parallel { pipeline: 2 schedule: ZB_H1 " + search + " }"),
              ElementsAre("parallel.schedule_search.forward: 1 has no effect with parallel.schedule ZB_H1",
                          "parallel.schedule_search.backward_input: 3 has no effect with parallel.schedule ZB_H1",
                          "parallel.schedule_search.backward_weight: 5 has no effect with parallel.schedule ZB_H1",
                          "parallel.schedule_search.message: 0.5 has no effect with parallel.schedule ZB_H1",
                          "parallel.schedule_search.in_flight: 7 has no effect with parallel.schedule ZB_H1"));
  EXPECT_THAT(Idle("parallel { pipeline: 2 schedule: AUTO " + search + " }"), IsEmpty());
}

TEST(IdleOptionsTest, ThreadsAreTheCpus) {
  EXPECT_THAT(Idle("runtime { threads: 4 device: CUDA }"),
              ElementsAre("runtime.threads: 4 has no effect with runtime.device CUDA"));
  EXPECT_THAT(Idle("runtime { threads: 4 }"), IsEmpty());
}

}  // namespace
}  // namespace trefoil
