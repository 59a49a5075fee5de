#include "training/config/validate.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "tests/training/validate_testing.h"

namespace trefoil {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::TextFormat;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

TEST(ViolationsTest, ALegalRunHasNone) { EXPECT_THAT(Check(Changed("")), IsEmpty()); }

TEST(ViolationsTest, AxesMustMultiplyToTheRanks) {
  EXPECT_THAT(Check(Changed("parallel { tensor: 2 pipeline: 2 data: 4 }")),
              ElementsAre("parallel: tensor 2 x pipeline 2 x data 4 = 16, but the job has 8 ranks; nearest legal: "
                          "tensor 1 x pipeline 2 x data 4"));
  // An axis left out is what is left, rounded down.
  EXPECT_THAT(Check(Changed("parallel { tensor: 3 pipeline: 1 }")),
              ElementsAre("parallel: tensor 3 x pipeline 1 x data 2 = 6, but the job has 8 ranks; nearest legal: "
                          "tensor 2 x pipeline 1 x data 4"));
}

TEST(ViolationsTest, WeightsGoWithTheSources) {
  const std::string two = "data { train: 'more/train' ";  // the second of them
  EXPECT_THAT(Check(Changed(two + "weights: 1 weights: 0.5 }")), IsEmpty());
  EXPECT_THAT(Check(Changed(two + "}")), IsEmpty());
  EXPECT_THAT(Check(Changed(two + "weights: 1 }")),
              ElementsAre("data.weights: 1 of them, must be one for each entry of data.train, which has 2; nearest legal: "
                          "2, or none"));
  EXPECT_THAT(Check(Changed(two + "weights: 1 weights: 0 }")),
              ElementsAre("data.weights[1]: 0, must be a finite number above 0; nearest legal: leave more/train out"));
  EXPECT_THAT(Check(Changed(two + "weights: -1 weights: 2 }")), ElementsAre(StartsWith("data.weights[0]: -1, must be")));
  EXPECT_THAT(Check(Changed(two + "weights: inf weights: 2 }")), ElementsAre(StartsWith("data.weights[0]: inf, must be")));
  EXPECT_THAT(Check(Changed(two + "weights: 100 weights: 0.001 }")),
              ElementsAre(AllOf(StartsWith("data.weights[1]: 0.001, must be at least 0.0001 of their sum 100.001"),
                                HasSubstr("nearest legal: 0.0100001"))));
}

TEST(ViolationsTest, ReplicasDivideTheDataRanks) {
  EXPECT_THAT(Check(Changed("parallel { replicas: 2 }")), IsEmpty());
  EXPECT_THAT(Check(Changed("parallel { replicas: 3 }")),
              ElementsAre("parallel.replicas: 3, must divide parallel.data 2; nearest legal: 2"));
}

TEST(ViolationsTest, GradientGroupsDoubleTheDataRanks) {
  for (const char* groups : {"0", "2", "4"}) {
    EXPECT_THAT(Check(Changed(std::string("training { gradient_groups: ") + groups + " }")), IsEmpty());
  }
  const auto expect = [](const std::string& groups, const std::string& nearest) {
    EXPECT_THAT(
        Check(Changed("training { gradient_groups: " + groups + " }")),
        ElementsAre(AllOf(StartsWith("training.gradient_groups: " + groups + ", must be parallel.data 2 times a power"),
                          HasSubstr("8 micro-batches"), HasSubstr("nearest legal: " + nearest))));
  };
  expect("1", "2");
  expect("3", "2");
  expect("6", "4");
  expect("16", "8");
  // 6 groups would divide these 12 micro-batches, but 3 on a rank are no power of two.
  EXPECT_THAT(Check(Changed("training { gradient_groups: 6 global_batch: 24 }")),
              ElementsAre(AllOf(HasSubstr("12 micro-batches"), HasSubstr("nearest legal: 4"))));
  EXPECT_THAT(Check(Changed("training { gradient_groups: 4 } parallel { schedule: GPIPE }")),
              ElementsAre(AllOf(StartsWith("training.gradient_groups: 4, must not be above parallel.data 2 with"),
                                HasSubstr("nearest legal: 2"))));
  EXPECT_THAT(Check(Changed("training { gradient_groups: 2 } parallel { schedule: GPIPE }")), IsEmpty());
  for (const char* zero : {"GRADIENTS", "WEIGHTS"}) {
    const std::string layout = std::string(" parallel { zero: ") + zero + " }";
    EXPECT_THAT(Check(Changed("training { gradient_groups: 4 }" + layout)),
                ElementsAre(AllOf(StartsWith("training.gradient_groups: 4, must not be above parallel.data 2 with"),
                                  HasSubstr(zero), HasSubstr("nearest legal: 2 (or zero OPTIMIZER)"))));
    EXPECT_THAT(Check(Changed("training { gradient_groups: 2 }" + layout)), IsEmpty());
  }
  EXPECT_THAT(Check(Changed("training { gradient_groups: 4 } runtime { sums: FASTEST }")),
              ElementsAre("training.gradient_groups: 4, must not be above parallel.data 2 with runtime.sums FASTEST, "
                          "which has no one order of addition; nearest legal: 2 (or sums ORDERED)"));
  EXPECT_THAT(Check(Changed("training { gradient_groups: 2 } runtime { sums: FASTEST }")), IsEmpty());
}

TEST(ViolationsTest, WhatDiffersByItselfIsNotComputedTwice) {
  EXPECT_THAT(Check(Changed("training { compute_twice_every_steps: 9 } runtime { sums: FASTEST }")),
              ElementsAre("training.compute_twice_every_steps: 9, must be 0 with runtime.sums FASTEST, which promises no "
                          "order of addition; nearest legal: 0 (or sums ORDERED)"));
  const std::string cudnn = "training { precision: BF16 compute_twice_every_steps: 9 } runtime { device: CUDA attention: ";
  EXPECT_THAT(Check(Changed(cudnn + "CUDNN }")),
              ElementsAre("training.compute_twice_every_steps: 9, must be 0 with runtime.attention CUDNN, whose backward "
                          "adds in no fixed order; nearest legal: 0 (or attention CUDNN_DETERMINISTIC)"));
  EXPECT_THAT(Check(Changed(cudnn + "OWN }")), IsEmpty());
}

// Tensor 4 is nearer to 3 in ratio, but kv_heads 6 does not allow it.
TEST(ViolationsTest, TheNearestMeshIsOneThatTheModelAllows) {
  EXPECT_THAT(Check(Changed("parallel { tensor: 3 pipeline: 2 data: 1 } training { global_batch: 1024 }")),
              ElementsAre(HasSubstr("nearest legal: tensor 2 x pipeline 2 x data 2")));
  EXPECT_THAT(Check(Changed("model { kv_heads: 12 } parallel { tensor: 3 pipeline: 2 data: 1 }")),
              ElementsAre(HasSubstr("nearest legal: tensor 4 x pipeline 2 x data 1")));
}

TEST(ViolationsTest, TensorDividesHeadsKvHeadsAndFeedForward) {
  EXPECT_THAT(Check(Changed("parallel { tensor: 4 pipeline: 1 }")),
              ElementsAre("model.kv_heads: 6 is not a multiple of parallel.tensor 4; nearest tensor sizes that divide "
                          "heads and kv_heads and feed_forward: 3, 6"));
  EXPECT_THAT(Check(Changed("model { feed_forward: 250 } parallel { tensor: 4 pipeline: 1 }")),
              ElementsAre(StartsWith("model.kv_heads: 6 "), StartsWith("model.feed_forward: 250 ")));
  EXPECT_THAT(Check(Changed("model { kv_heads: 3 heads: 6 } parallel { tensor: 8 pipeline: 1 }")),
              ElementsAre(StartsWith("model.heads: 6 "), StartsWith("model.kv_heads: 3 ")));
  EXPECT_THAT(Check(Changed("model { feed_forward: 255 } parallel { tensor: 2 }")),
              ElementsAre(AllOf(StartsWith("model.feed_forward: 255 "), HasSubstr(": 1, 3"))));
}

TEST(ViolationsTest, KvHeadsDividesHeads) {
  EXPECT_THAT(Check(Changed("model { kv_heads: 8 }")),
              ElementsAre("model.kv_heads: 8 does not divide model.heads 12; nearest legal: 6, 12"));
}

TEST(ViolationsTest, HiddenIsAMultipleOfHeadsUnlessHeadDimIsSet) {
  EXPECT_THAT(Check(Changed("model { hidden: 100 }")),
              ElementsAre("model.head_dim: not set, and model.hidden 100 is not a multiple of model.heads 12; "
                          "nearest hidden: 96, 108, or set head_dim"));
  EXPECT_THAT(Check(Changed("model { hidden: 100 head_dim: 8 }")), IsEmpty());
  EXPECT_THAT(Check(Changed("model { hidden: 8 }")), ElementsAre(HasSubstr("nearest hidden: 12, or set")));
}

TEST(ViolationsTest, LlamaHeadsAreEven) {
  EXPECT_THAT(Check(Changed("model { head_dim: 9 }")), ElementsAre(AllOf(StartsWith("model.head_dim: 9"),
                                                                     HasSubstr("nearest legal: 8, 10"))));
  EXPECT_THAT(Check(Changed("model { family: GPT head_dim: 9 }")), IsEmpty());
}

TEST(ViolationsTest, DropoutIsAShareAndOnlyForGpt) {
  EXPECT_THAT(Check(Changed("model { family: GPT dropout: 0.5 }")), IsEmpty());
  EXPECT_THAT(Check(Changed("model { family: GPT dropout: 1 }")), ElementsAre(StartsWith("model.dropout: 1, must be in")));
  EXPECT_THAT(Check(Changed("model { dropout: 0.5 }")), ElementsAre(StartsWith("model.dropout: 0.5, must be 0 for LLAMA")));
}

TEST(ViolationsTest, RotaryBaseIsOnlyForLlama) {
  EXPECT_THAT(Check(Changed("model { family: GPT rope_theta: 10000 }")), ElementsAre(StartsWith("model.rope_theta: 10000")));
  EXPECT_THAT(Check(Changed("model { rope_theta: 500000 }")), IsEmpty());
}

TEST(ViolationsTest, ScalingOfRotaryPositions) {
  const auto scaled = [](const std::string& scaling) { return Check(Changed("model { rope_scaling { " + scaling + " } }")); };
  EXPECT_THAT(scaled("kind: LINEAR factor: 4"), IsEmpty());
  EXPECT_THAT(scaled("kind: LLAMA3 factor: 32 original_length: 8192"), IsEmpty());
  EXPECT_THAT(scaled("kind: YARN factor: 4 original_length: 32768"), IsEmpty());
  EXPECT_THAT(scaled("factor: 4"), ElementsAre("model.rope_scaling.factor: 4, must be 0 without model.rope_scaling.kind, "
                                               "which has no use for it; nearest legal: 0"));
  EXPECT_THAT(scaled("kind: LINEAR factor: 0.5 beta_fast: 32"),
              ElementsAre("model.rope_scaling.factor: 0.5, must be at least 1; nearest legal: 1",
                          "model.rope_scaling.beta_fast: 32, must be 0 with model.rope_scaling.kind LINEAR, which has no "
                          "use for it; nearest legal: 0"));
  EXPECT_THAT(scaled("kind: LLAMA3"), ElementsAre("model.rope_scaling.factor: 0, must be above 0; usual: 8",
                                                  "model.rope_scaling.original_length: 0, must be above 0; usual: 8192"));
  EXPECT_THAT(scaled("kind: LLAMA3 factor: 8 original_length: 8192 low_frequency_factor: 4"),
              ElementsAre("model.rope_scaling.low_frequency_factor: 4, must be below "
                          "model.rope_scaling.high_frequency_factor 4; nearest legal: 1"));
  EXPECT_THAT(scaled("kind: YARN factor: 4 original_length: 8192 beta_fast: 1 beta_slow: 2"),
              ElementsAre(StartsWith("model.rope_scaling.beta_slow: 2, must be below model.rope_scaling.beta_fast 1")));
  EXPECT_THAT(Check(Changed("model { family: GPT rope_scaling { kind: LINEAR factor: 4 } }")),
              ElementsAre("model.rope_scaling.kind: LINEAR, must be left out for GPT, which has no rotary positions; "
                          "nearest legal: KIND_UNSET"));
}

TEST(ViolationsTest, WindowsAreOfDecoders) {
  EXPECT_THAT(Check(Changed("model { sliding_window: 4 first_window_layer: 1 }")), IsEmpty());
  EXPECT_THAT(Check(Changed("model { family: GPT sliding_window: 4096 }")), IsEmpty());
  EXPECT_THAT(Check(Changed("model { family: T5 sliding_window: 4 }")),
              ElementsAre("model.sliding_window: 4, must be 0 for T5, which has no use for it; nearest legal: 0"));
  EXPECT_THAT(Check(Changed("model { first_window_layer: 1 }")),
              ElementsAre("model.first_window_layer: 1, must be 0 without model.sliding_window; nearest legal: 0"));
  EXPECT_THAT(Check(Changed("model { layers: 2 sliding_window: 4 first_window_layer: 2 }")),
              ElementsAre("model.first_window_layer: 2, must be below model.layers 2; nearest legal: 1"));
}

TEST(ViolationsTest, OptionsOfBlocksAreOfNetworksThatHaveThem) {
  EXPECT_THAT(Check(Changed("model { qk_norm: true attention_output_bias: true mlp_bias: true activation: GELU gated: false }")),
              IsEmpty());
  EXPECT_THAT(Check(Changed("model { family: T5 qk_norm: true }")),
              ElementsAre("model.qk_norm: 1, must be 0 for T5, which has no use for it; nearest legal: 0"));
  EXPECT_THAT(Check(Changed("model { family: RNN heads: 1 kv_heads: 1 qk_norm: true attention_output_bias: true mlp_bias: true "
                            "activation: RELU gated: true }")),
              ElementsAre(StartsWith("model.qk_norm: 1"), StartsWith("model.attention_output_bias: 1"),
                          StartsWith("model.mlp_bias: 1"), StartsWith("model.gated: 1"),
                          "model.activation: RELU, must be left out for RNN, which has no use for it; nearest legal: "
                          "ACTIVATION_UNSET"));
}

TEST(ViolationsTest, LayersCoverEveryChunkOfEveryStage) {
  EXPECT_THAT(Check(Changed("model { layers: 1 }")), ElementsAre(AllOf(StartsWith("model.layers: 1, must be at least "),
                                                                   HasSubstr("nearest legal: 2"))));
  EXPECT_THAT(Check(Changed("model { layers: 5 } parallel { schedule: INTERLEAVED chunks: 3 }")),
              ElementsAre(HasSubstr("nearest legal: 6")));
  EXPECT_THAT(Check(Changed("model { layers: 3 }")), IsEmpty());  // uneven stages are fine
}

TEST(ViolationsTest, ChunksGoWithInterleaved) {
  EXPECT_THAT(Check(Changed("parallel { chunks: 2 }")), ElementsAre(StartsWith("parallel.chunks: 2, must be 1 ")));
  EXPECT_THAT(Check(Changed("parallel { schedule: GPIPE chunks: 2 }")), ElementsAre(StartsWith("parallel.chunks: 2, ")));
  EXPECT_THAT(Check(Changed("parallel { schedule: INTERLEAVED chunks: 1 }")),
              ElementsAre(StartsWith("parallel.chunks: 1, must be at least 2")));
  EXPECT_THAT(Check(Changed("parallel { schedule: INTERLEAVED }")), IsEmpty());
}

TEST(ViolationsTest, MessagesAndSharingAreForGpus) {
  EXPECT_THAT(Check(Changed("runtime { device: CUDA }")), IsEmpty());
  EXPECT_THAT(Check(Changed("runtime { device: CUDA messages: HOST allow_shared_device: true }")), IsEmpty());
  EXPECT_THAT(Check(Changed("runtime { messages: HOST allow_shared_device: true }")),
              ElementsAre(StartsWith("runtime.messages: HOST, only with runtime.device CUDA"),
                          StartsWith("runtime.allow_shared_device: true, only with")));
  EXPECT_THAT(Check(Changed("runtime { device: CUDA allow_shared_device: true }")),
              ElementsAre(AllOf(StartsWith("runtime.messages: NCCL"), HasSubstr("nearest legal: HOST"))));
}

TEST(ViolationsTest, CudnnsAttentionIsForWhatItCanDo) {
  const std::string bf16 = "training { precision: BF16 } ";
  for (const std::string attention : {"CUDNN", "CUDNN_DETERMINISTIC"}) {
    const std::string cuda = "runtime { device: CUDA attention: " + attention + " } ";
    const std::string name = "runtime.attention: " + attention;
    EXPECT_THAT(Check(Changed(bf16 + cuda)), IsEmpty());
    EXPECT_THAT(Check(Changed("runtime { attention: " + attention + " }")),
                ElementsAre(name + ", only with runtime.device CUDA; nearest legal: leave it out"));
    EXPECT_THAT(Check(Changed(cuda + "training { precision: FP32 }")),
                ElementsAre(name + ", must not be cuDNN's with training.precision FP32; nearest legal: OWN"));
    EXPECT_THAT(Check(Changed(bf16 + cuda + "model { family: GPT dropout: 0.125 }")),
                ElementsAre(name + ", must not be cuDNN's with model.dropout 0.125, whose mask it does not have; "
                                   "nearest legal: OWN"));
    EXPECT_THAT(Check(Changed(bf16 + cuda + "model { head_dim: 12 }")),
                ElementsAre(AllOf(StartsWith(name), HasSubstr("found 12 and 64"), HasSubstr("nearest legal: OWN"))));
    EXPECT_THAT(Check(Changed(bf16 + cuda + "model { sequence_length: 1 }")),
                ElementsAre(AllOf(StartsWith(name), HasSubstr("found 8 and 1"))));
  }
  EXPECT_THAT(Check(Changed("runtime { device: CUDA attention: OWN } model { head_dim: 12 }")), IsEmpty());
}

TEST(ViolationsTest, HeadsOnGpusAreAtMost128Wide) {
  EXPECT_THAT(Check(Changed("runtime { device: CUDA } model { head_dim: 128 }")), IsEmpty());
  EXPECT_THAT(Check(Changed("runtime { device: CUDA } model { head_dim: 136 }")),
              ElementsAre("model.head_dim: 136, must be at most 128 with runtime.device CUDA; nearest legal: 128"));
  EXPECT_THAT(Check(Changed("model { head_dim: 136 }")), IsEmpty());
}

TEST(ViolationsTest, GraphsAreForStepsThatOnlyTheTokensChange) {
  const auto check = [](const std::string& more, int ranks) {
    RunConfig config = Changed("parallel { pipeline: 1 data: 1 } runtime { device: CUDA graphs: ON }"), change;
    EXPECT_TRUE(TextFormat::ParseFromString(more, &change)) << more;
    config.MergeFrom(change);
    return Check(config, ranks);
  };
  const auto no = [](const char* why) {
    return ElementsAre(std::string("runtime.graphs: ON, but ") + why + "; nearest legal: OFF");
  };
  EXPECT_THAT(check("", 2), IsEmpty());
  EXPECT_THAT(check("parallel { pipeline: 2 }", 4), no("parallel.pipeline is 2, must be 1"));
  EXPECT_THAT(check("parallel { data: 2 }", 4), no("parallel.data is 2, must be 1"));
  EXPECT_THAT(check("parallel { schedule: GPIPE }", 2), no("parallel.schedule is GPIPE, must be ONE_F_ONE_B"));
  EXPECT_THAT(check("runtime { messages: HOST }", 2), no("parallel.tensor is 2, must be 1 with runtime.messages HOST"));
  EXPECT_THAT(check("parallel { tensor: 1 } runtime { messages: HOST }", 1), IsEmpty());
  EXPECT_THAT(check("model { family: GPT dropout: 0.1 }", 2),
              ElementsAre(StartsWith("runtime.graphs: ON, but model.dropout is above 0")));
  EXPECT_THAT(check("parallel { pipeline: 2 } runtime { graphs: OFF }", 4), IsEmpty());
  EXPECT_THAT(Check(Changed("runtime { graphs: OFF }")),
              ElementsAre("runtime.graphs: OFF, only with runtime.device CUDA; nearest legal: leave it out"));
}

TEST(ViolationsTest, InterleavedNeedsStagesAndWholeRoundsOfMicroBatches) {
  EXPECT_THAT(Check(Changed("parallel { schedule: INTERLEAVED pipeline: 1 }")),
              ElementsAre(StartsWith("parallel.schedule: INTERLEAVED")));
  // 12 / (2 x 2) = 3 micro-batches on 2 stages.
  EXPECT_THAT(Check(Changed("parallel { schedule: INTERLEAVED } training { global_batch: 12 }")),
              ElementsAre(AllOf(StartsWith("training.global_batch: 12 makes 3 "), HasSubstr("nearest legal: 8, 16"))));
  EXPECT_THAT(Check(Changed("parallel { schedule: ONE_F_ONE_B } training { global_batch: 12 }")), IsEmpty());
}

TEST(ViolationsTest, FoldedSchedulesNeedStagesChunksAndMicroBatches) {
  EXPECT_THAT(Check(Changed("parallel { schedule: ZB_H1 } training { global_batch: 4 }")), IsEmpty());
  EXPECT_THAT(Check(Changed("parallel { schedule: ZB_H2 pipeline: 1 }")),
              ElementsAre(StartsWith("parallel.schedule: ZB_H2, must have a parallel.pipeline of at least 2")));
  // 2 x 2 samples a micro-batch of all data ranks, 2 stages.
  EXPECT_THAT(Check(Changed("parallel { schedule: ZB_V } training { global_batch: 12 }")), IsEmpty());
  EXPECT_THAT(Check(Changed("parallel { schedule: ZB_V } training { global_batch: 8 }")),
              ElementsAre("training.global_batch: 8 makes 2 micro-batches per step, must be at least 3 with ZB_V over 2 "
                          "stages; nearest legal: 12 (or schedule: INTERLEAVED)"));
  EXPECT_THAT(Check(Changed("parallel { schedule: DUALPIPE_V } training { global_batch: 12 }")),
              ElementsAre(HasSubstr("must be at least 4 with DUALPIPE_V over 2 stages; nearest legal: 16")));
  EXPECT_THAT(Check(Changed("parallel { schedule: DUALPIPE_V chunks: 3 } model { layers: 6 }")),
              ElementsAre("parallel.chunks: 3, must be 2 with DUALPIPE_V; nearest legal: 2 (or schedule: INTERLEAVED)"));
  EXPECT_THAT(Check(Changed("parallel { schedule: ZB_V } training { gradient_groups: 4 }")),
              ElementsAre(HasSubstr("with parallel.schedule ZB_V, in which the next group begins to add")));
}

TEST(ViolationsTest, SearchedSchedulesHaveTimesOfAllVirtualStagesOrNone) {
  EXPECT_THAT(Check(Changed("parallel { schedule: AUTO }")), IsEmpty());
  EXPECT_THAT(Check(Changed("parallel { schedule: AUTO schedule_search { forward: [1, 2] backward_input: [1, 2] "
                            "backward_weight: [1, 2] message: 0.1 in_flight: 3 } }")),
              IsEmpty());
  EXPECT_THAT(Check(Changed("parallel { schedule: AUTO schedule_search { forward: [1, -2] backward_input: [nan, 2] "
                            "backward_weight: [1, inf] } }")),
              ElementsAre("parallel.schedule_search.forward: -2, must be a finite number that is not negative; nearest "
                          "legal: 0",
                          StartsWith("parallel.schedule_search.backward_input: nan, "),
                          StartsWith("parallel.schedule_search.backward_weight: inf, ")));
  EXPECT_THAT(Check(Changed("parallel { schedule: AUTO schedule_search { forward: [1, 2] backward_weight: 1 } }")),
              ElementsAre(StartsWith("parallel.schedule_search.backward_input: 0 times, must be one for each of the 2 "),
                          StartsWith("parallel.schedule_search.backward_weight: 1 times, must be ")));
  EXPECT_THAT(Check(Changed("parallel { schedule: AUTO chunks: 3 } model { layers: 6 }")),
              ElementsAre(StartsWith("parallel.chunks: 3, must be at most 2 with AUTO; nearest legal: 2")));
}

TEST(ViolationsTest, GlobalBatchIsWholeMicroBatches) {
  EXPECT_THAT(Check(Changed("training { global_batch: 18 }")),
              ElementsAre("training.global_batch: 18 is not a multiple of training.micro_batch 2 x parallel.data 2 = 4; "
                          "nearest legal: 16, 20"));
  EXPECT_THAT(Check(Changed("training { global_batch: 3 }")), ElementsAre(HasSubstr("nearest legal: 4")));
}

TEST(ViolationsTest, SequenceParallelSplitsTokensEvenly) {
  // 3 x 7 = 21 tokens on 2 ranks.
  const std::string odd = "model { sequence_length: 7 } training { micro_batch: 3 global_batch: 12 }";
  EXPECT_THAT(Check(Changed(odd)), IsEmpty());
  EXPECT_THAT(Check(Changed(odd + "parallel { sequence_parallel: true }")),
              ElementsAre(AllOf(StartsWith("model.sequence_length: 7 x training.micro_batch 3 = 21 is not"),
                                HasSubstr("nearest sequence_length: 6, 8"))));
  EXPECT_THAT(Check(Changed("model { sequence_length: 7 } parallel { sequence_parallel: true }")), IsEmpty());
  // Of an image they follow from its size.
  RunConfig images = Changed("parallel { sequence_parallel: true } training { micro_batch: 3 global_batch: 12 }");
  images.clear_model();
  images.clear_task();
  EXPECT_TRUE(TextFormat::MergeFromString(
      "model { family: VIT layers: 2 hidden: 32 heads: 4 image_size: 8 patch_size: 4 classes: 3 }", &images));
  EXPECT_THAT(Check(images), ElementsAre(AllOf(StartsWith("model.sequence_length: 5 x training.micro_batch 3 = 15 is not"),
                                               HasSubstr("nearest micro_batch: 2, 4"))));
}

TEST(ViolationsTest, ContextRanksShareTokensAndHeadsEvenly) {
  const auto four = [](int length, const char* method) {
    return Check(Changed("parallel { tensor: 1 pipeline: 1 data: 2 context: 4 context_method: " + std::string(method) +
                         " } model { heads: 4 kv_heads: 2 sequence_length: " + std::to_string(length) + " }"));
  };
  EXPECT_THAT(four(16, "RING"), IsEmpty());
  EXPECT_THAT(four(20, "RING"),
              ElementsAre(AllOf(StartsWith("model.sequence_length: 20 is not a multiple of 2 x parallel.context 4"),
                                HasSubstr("nearest legal: 16, 24"))));
  EXPECT_THAT(four(16, "ALL_TO_ALL"),
              ElementsAre(AllOf(StartsWith("parallel.context: 4, must divide the heads and key/value heads of a rank, "
                                           "4 and 2"),
                                HasSubstr("nearest legal: 2 (or context_method: RING)"))));
  EXPECT_THAT(four(20, "ALL_TO_ALL"), testing::SizeIs(2)) << "all at once";
}

TEST(ViolationsTest, DocumentsAreOfRunningText) {
  EXPECT_THAT(Check(Changed("data { mask_documents: true }")), IsEmpty());
  EXPECT_THAT(Check(Changed("data { mask_documents: true } task { kind: ANSWERS }")),
              ElementsAre(AllOf(StartsWith("data.mask_documents: true, must be false with task.kind ANSWERS"),
                                HasSubstr("nearest legal: false"))));
  RunConfig recurrent = Changed("data { mask_documents: true } parallel { tensor: 1 pipeline: 1 }");
  recurrent.clear_model();
  EXPECT_TRUE(TextFormat::MergeFromString(
      "model { family: LSTM layers: 2 hidden: 32 vocabulary: 61 sequence_length: 16 }", &recurrent));
  EXPECT_THAT(Check(recurrent), ElementsAre(StartsWith("data.mask_documents: true, must be false for LSTM")));
}

TEST(ViolationsTest, SomeNetworksHaveNoTokensToShare) {
  for (const char* model :
       {"family: TRANSFORMER decoder_length: 16", "family: LSTM",
        "family: VIT image_size: 8 patch_size: 4 classes: 3 sequence_length: 0 vocabulary: 0"}) {
    RunConfig config = Changed("parallel { tensor: 1 pipeline: 1 data: 4 context: 2 }");
    config.clear_model();
    config.clear_task();
    EXPECT_TRUE(TextFormat::MergeFromString(
        std::string("model { layers: 2 hidden: 32 heads: 4 vocabulary: 61 sequence_length: 16 ") + model + " }",
        &config));
    EXPECT_THAT(Check(config), testing::Contains(AllOf(StartsWith("parallel.context: 2, must be 1 for "),
                                                       HasSubstr("nearest legal: 1"))))
        << model;
  }
}

TEST(ViolationsTest, VocabularyIsKnownAndCoversTheTensorAxis) {
  EXPECT_THAT(Check(Changed("model { vocabulary: 1 }")), ElementsAre(StartsWith("model.vocabulary: 1, must be at least")));
  RunConfig unknown = Changed("");
  unknown.mutable_model()->clear_vocabulary();
  EXPECT_THAT(Check(unknown), ElementsAre(StartsWith("model.vocabulary: not set, and no tokenizer says it")));
}

TEST(ViolationsTest, OptimizerValuesAreInRange) {
  const auto optimizer = [](const std::string& text) { return Check(Changed("training { optimizer { " + text + " } }")); };
  EXPECT_THAT(optimizer("beta1: 1"), ElementsAre(StartsWith("training.optimizer.beta1: 1, must be in [0, 1)")));
  EXPECT_THAT(optimizer("beta2: 1.5"), ElementsAre(StartsWith("training.optimizer.beta2: 1.5, ")));
  EXPECT_THAT(optimizer("beta2: 1"), ElementsAre(StartsWith("training.optimizer.beta2: 1, ")));
  EXPECT_THAT(optimizer("beta1: 0 beta2: 0"), IsEmpty());
  EXPECT_THAT(optimizer("epsilon: 0"), ElementsAre(StartsWith("training.optimizer.epsilon: 0, must be above 0")));
  EXPECT_THAT(optimizer("final_share: 1.1"), ElementsAre(StartsWith("training.optimizer.final_share: 1.1, ")));
  EXPECT_THAT(optimizer("decay_share: 2"), ElementsAre(StartsWith("training.optimizer.decay_share: 2, ")));
  EXPECT_THAT(optimizer("final_share: 1 decay_share: 1 clip_norm: 0 weight_decay: 0"), IsEmpty());
  EXPECT_THAT(optimizer("learning_rate: -1"), ElementsAre(StartsWith("training.optimizer.learning_rate: -1, ")));
  EXPECT_THAT(optimizer("learning_rate: nan"), ElementsAre(StartsWith("training.optimizer.learning_rate: nan, ")));
  EXPECT_THAT(optimizer("clip_norm: inf"), ElementsAre(StartsWith("training.optimizer.clip_norm: inf, ")));
  EXPECT_THAT(optimizer("warmup_steps: 101"),
              ElementsAre("training.optimizer.warmup_steps: 101, must be at most training.steps 100; "
                          "nearest legal: 100"));
  EXPECT_THAT(optimizer("warmup_steps: 100"), IsEmpty());
  EXPECT_THAT(optimizer("schedule: INVERSE_SQRT"), IsEmpty());
  RunConfig without = Changed("training { optimizer { schedule: INVERSE_SQRT } }");
  without.mutable_training()->mutable_optimizer()->clear_warmup_steps();
  EXPECT_THAT(Check(without),
              ElementsAre("training.optimizer.warmup_steps: 0, must be at least 1 with schedule INVERSE_SQRT, which is "
                          "relative to it; nearest legal: 1"));
}

TEST(ViolationsTest, FineTuningLeavesSomethingToTrain) {
  const auto tuning = [](const std::string& text) {
    return Check(Changed("training { fine_tuning { " + text + " } }"));
  };
  const std::string prefix = "training.fine_tuning.";
  EXPECT_THAT(tuning("layer_decay: 0.5 frozen_layers: 1 freeze: 'head.norm' freeze: 'blocks.1.attention'"), IsEmpty());
  EXPECT_THAT(tuning("layer_decay: 1.5"),
              ElementsAre(prefix + "layer_decay: 1.5, must be above 0 and at most 1; nearest legal: 1"));
  EXPECT_THAT(tuning("layer_decay: 0"),
              ElementsAre(prefix + "layer_decay: 0, must be above 0 and at most 1; nearest legal: 0.75"));
  EXPECT_THAT(tuning("frozen_layers: 99"),
              ElementsAre(StartsWith(prefix + "frozen_layers: 99, must be at most the model's ")));
  EXPECT_THAT(tuning("freeze: 'block'"),
              ElementsAre(prefix + "freeze: block, which no parameter's name begins with; nearest "
                                   "legal: embedding, blocks, head"));
  EXPECT_THAT(
      tuning("freeze: 'blocks.0.attention.q'"),
      ElementsAre(prefix +
                  "freeze: has only one of blocks.0.attention.q.weight and blocks.0.attention.k.weight, which are "
                  "used as one matrix; nearest legal: blocks.0.attention"));
  EXPECT_THAT(tuning("freeze: 'embedding' freeze: 'blocks' freeze: 'head'"),
              ElementsAre(prefix + "freeze: nothing is left to train; nearest legal: leave out embedding"));
}

TEST(ViolationsTest, AdaptersFitTheirMatrices) {
  EXPECT_THAT(Check(Changed("model { lora { rank: 8 alpha: 16 on: GATE on: DOWN } }")), IsEmpty());
  EXPECT_THAT(Check(Changed("model { lora { rank: 97 } }")),
              ElementsAre("model.lora.rank: 97, must be at most model.hidden 96; nearest legal: 96"));
  EXPECT_THAT(Check(Changed("model { lora { rank: 8 alpha: 0 } }")),
              ElementsAre(StartsWith("model.lora.alpha: 0, must be above 0")));
  EXPECT_THAT(Check(Changed("model { family: GPT lora { rank: 8 on: GATE } }")),
              ElementsAre("model.lora.on: GATE, which the MLP of GPT does not have; nearest legal: UP"));
  EXPECT_THAT(Check(Changed("model { family: LSTM kv_heads: 0 lora { rank: 8 } }")),
              ElementsAre("model.lora.rank: 8, must be 0 for LSTM, which has no use for it; nearest legal: 0"));
}

TEST(ViolationsTest, AnEarlyStopNeedsEvaluations) {
  EXPECT_THAT(
      Check(Changed("training { early_stop { evaluations: 3 } }")),
      ElementsAre(
          "training.early_stop.evaluations: 3, but evaluate_every_steps is 0: there is an evaluation at the end "
          "only; nearest legal: evaluate_every_steps 10, or evaluations 0"));
  EXPECT_THAT(Check(Changed("training { evaluate_every_steps: 7 early_stop { evaluations: 3 } }")), IsEmpty());
  EXPECT_THAT(
      Check(Changed("training { evaluate_every_steps: 7 early_stop { evaluations: 3 by: ACCURACY } }")),
      ElementsAre(
          "training.early_stop.by: ACCURACY, which task.kind NEXT_TOKEN of LLAMA has none of; nearest legal: LOSS"));
}

TEST(ViolationsTest, ALimitOfSkippedStepsIsAtLeastOne) {
  EXPECT_THAT(Check(Changed("training { on_nan: SKIP on_nan_limit: 1 }")), IsEmpty());
  EXPECT_THAT(Check(Changed("training { on_nan: SKIP on_nan_limit: 0 }")),
              ElementsAre("training.on_nan_limit: 0, must be at least 1; nearest legal: 1"));
}

TEST(ViolationsTest, FolderAndTrainingDataAreNamed) {
  RunConfig config = Changed("");
  config.clear_folder();
  config.mutable_data()->clear_train();
  EXPECT_THAT(Check(config), ElementsAre(StartsWith("folder: empty"), StartsWith("data.train: empty")));
  EXPECT_THAT(Check(Changed("data { train: '' held_out: '' }")),
              ElementsAre(StartsWith("data.train[1]: empty"), StartsWith("data.held_out[0]: empty")));
}

TEST(ViolationsTest, AllAreFoundAtOnceEvenInAnEmptyConfig) {
  EXPECT_THAT(Check(RunConfig(), 1),
              ElementsAre(StartsWith("model.family: not set; legal: GPT, LLAMA"), StartsWith("model.layers: 0, "),
                          StartsWith("model.hidden: 0, "), StartsWith("model.heads: 0, "),
                          StartsWith("model.sequence_length: 0, "), StartsWith("model.vocabulary: not set"),
                          StartsWith("folder: "), StartsWith("data.train: "), StartsWith("training.steps: 0, "),
                          StartsWith("training.global_batch: 0, ")));
  EXPECT_THAT(Check(Changed("model { kv_heads: 5 sequence_length: -1 } parallel { pipeline: 3 data: 1 chunks: 2 }"
                        "training { optimizer { beta1: 2 } }")),
              SizeIs(7));
}

// Calls visit(message, field, path) for every singular leaf field of a config.
template <typename Visit>
void ForEachLeaf(Message* message, const std::string& prefix, const Visit& visit) {
  for (int i = 0; i < message->GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->field(i);
    if (field->is_repeated()) continue;
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      ForEachLeaf(message->GetReflection()->MutableMessage(message, field), prefix + field->name() + ".", visit);
    } else {
      visit(message, field, prefix + field->name());
    }
  }
}

void SetNumber(Message* message, const FieldDescriptor* field, int32_t value) {
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return message->GetReflection()->SetInt32(message, field, value);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return message->GetReflection()->SetFloat(message, field, static_cast<float>(value));
    case FieldDescriptor::CPPTYPE_ENUM:
      return message->GetReflection()->SetEnumValue(message, field, value);
    default:
      return;
  }
}

bool IsNumber(const FieldDescriptor* field) {
  return field->cpp_type() == FieldDescriptor::CPPTYPE_INT32 || field->cpp_type() == FieldDescriptor::CPPTYPE_FLOAT ||
         field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM;
}

TEST(ViolationsTest, EveryFieldRefusesNegativeNumbers) {
  RunConfig config = Changed("");
  int fields = 0;
  ForEachLeaf(&config, "", [&](Message* message, const FieldDescriptor* field, const std::string& path) {
    if (!IsNumber(field)) return;
    ++fields;
    const std::string legal = message->SerializeAsString();
    SetNumber(message, field, -3);
    EXPECT_THAT(Check(config), Contains(StartsWith(path + ": -3, "))) << path;
    message->ParseFromString(legal);
  });
  EXPECT_GT(fields, 35);
}

// No rule divides by a value that another rule has refused, and no product overflows.
TEST(ViolationsTest, AnyFieldMayBeZeroOrHuge) {
  for (const int32_t value : {0, 1, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()}) {
    RunConfig one = Changed("parallel { sequence_parallel: true schedule: INTERLEAVED }");
    ForEachLeaf(&one, "", [&](Message* message, const FieldDescriptor* field, const std::string&) {
      const std::string legal = message->SerializeAsString();
      SetNumber(message, field, value);
      Check(one);
      message->ParseFromString(legal);
    });
    RunConfig all;
    ForEachLeaf(&all, "", [&](Message* message, const FieldDescriptor* field, const std::string&) {
      SetNumber(message, field, value);
      Check(all);
    });
    EXPECT_THAT(Check(all), testing::Not(IsEmpty()));
  }
}

// Each rank's widths and the tokens of a micro-batch.
TEST(ViolationsTest, Float8NeedsMultiplesOfSixteen) {
  const std::string fp8 = "training { precision: FP8 } ";
  EXPECT_THAT(Check(Changed(fp8)), IsEmpty());
  EXPECT_THAT(Check(Changed(fp8 + "model { hidden: 104 head_dim: 8 }")),
              ElementsAre("model.hidden: 104, must be a multiple of 16 with training.precision FP8; nearest legal: "
                          "96, 112"));
  EXPECT_THAT(Check(Changed(fp8 + "model { feed_forward: 784 }")),
              ElementsAre("model.feed_forward: 784 / parallel.tensor 2 = 392, must be a multiple of 16 with "
                          "training.precision FP8; nearest legal: 768, 800"));
  EXPECT_THAT(Check(Changed(fp8 + "model { head_dim: 12 }")),
              ElementsAre("model.head_dim: 12 x a rank's 6 heads = 72, and x its 6 + 2 x 3 heads, keys and values = 144, "
                          "each must be a multiple of 16 with training.precision FP8; nearest head_dim: 8, 16"));
  EXPECT_THAT(Check(Changed(fp8 + "model { sequence_length: 60 }")),
              ElementsAre("model.sequence_length: 60 x training.micro_batch 2 = 120 tokens, must be a multiple of 16 "
                          "with training.precision FP8; nearest sequence_length: 56, 64"));
  EXPECT_THAT(Check(Changed(fp8 + "model { hidden: 104 head_dim: 10 feed_forward: 100 sequence_length: 7 }")), SizeIs(4));
  // What is offered is legal, and the rules are FP8's only.
  for (const char* legal : {"hidden: 112 head_dim: 8", "feed_forward: 800", "head_dim: 16", "sequence_length: 56"}) {
    EXPECT_THAT(Check(Changed(fp8 + "model { " + legal + " }")), IsEmpty()) << legal;
  }
  EXPECT_THAT(Check(Changed("training { precision: BF16 } model { hidden: 104 head_dim: 10 feed_forward: 100 "
                            "sequence_length: 7 }")), IsEmpty());
}

// A zero that is written is no field left out: it is a value of its own, or it is refused.
TEST(ViolationsTest, AZeroIsNotTheDefault) {
  EXPECT_THAT(Check(Changed("model { rope_theta: 0 norm_epsilon: 0 initial_deviation: 0 } training { log_every_steps: 0 "
                            "evaluate_samples: 0 optimizer { learning_rate: 0 } }")),
              ElementsAre("model.norm_epsilon: 0, must be above 0; usual: 1e-5",
                          "model.initial_deviation: 0, must be above 0; usual: 0.02",
                          "model.rope_theta: 0, must be above 0; usual: 10000",
                          "training.log_every_steps: 0, must be at least 1; nearest legal: 1",
                          "training.evaluate_samples: 0, must be at least 1; nearest legal: 1",
                          "training.optimizer.learning_rate: 0, must be above 0; usual: 3e-4"));
  RunConfig config = Changed("training { seed: 0 }");
  FillDefaults(&config, kRanks, {});
  EXPECT_EQ(config.training().seed(), 0u);
  EXPECT_EQ(config.data().seed(), 0u);
  config = Changed("training { seed: 5 } data { seed: 0 }");
  FillDefaults(&config, kRanks, {});
  EXPECT_EQ(config.data().seed(), 0u);
}

}  // namespace
}  // namespace trefoil
