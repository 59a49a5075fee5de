#include "launcher/report/describe.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "training/config/validate.h"

namespace trefoil {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

RunConfig Filled(const std::string& text, int ranks) {
  RunConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config));
  FillDefaults(&config, ranks, {});
  return config;
}

// The whole text, so that a change of it is seen by a person.
TEST(DescribeTest, ShowsTheRun) {
  const RunConfig config = Filled(R"(
      folder: "runs/x"
      model { family: LLAMA layers: 6 hidden: 192 heads: 6 kv_heads: 2 vocabulary: 2048 sequence_length: 256 }
      parallel { tensor: 2 pipeline: 2 }
      training { steps: 500 global_batch: 64 micro_batch: 4 optimizer { learning_rate: 2e-3 warmup_steps: 50 } })", 8);
  Summary summary;
  summary.program = "build 3f9a1c0b5d7e2468 (GCC 12.2.0)";
  summary.ranks = 8;
  summary.threads = 1;
  summary.parameters = summary.trained_parameters = 3'147'456;
  summary.flops_per_sample = 2e7 * config.model().sequence_length();
  summary.products = "float32 (float32 95.1, bf16 88.3 by float32's instructions, GFLOP/s of a core; measured now)";
  summary.peak.measured = 1.5e11;
  summary.worst_rank = 4;
  summary.memory = {{"weights", 3 << 20}, {"gradients", 1536}, {"workspace", 0}};
  summary.reserved = 9 << 19;
  summary.modules = {{"embedding", "layer 0", "layer 1", "layer 2"}, {"layer 3", "layer 4", "layer 5", "head"}};
  EXPECT_EQ("\n" + Describe(config, summary), R"(
run       runs/x
program   build 3f9a1c0b5d7e2468 (GCC 12.2.0)
model     LLAMA: 6 layers, hidden 192, 6 heads (2 key/value), feed-forward 512, vocabulary 2048; 3.15M parameters
mesh      tensor 2 x pipeline 2 x data 2 = 8 ranks, 1 thread each

                                           replica 0  replica 1
                                          +----------+----------+
          stage 0  embedding, layers 0-2  |   0  1   |   2  3   |
                                          +----------+----------+
          stage 1  layers 3-5, head       |   4  5   |   6  7   |
                                          +----------+----------+

schedule  ONE_F_ONE_B; ZeRO: OPTIMIZER; recompute: NOTHING; sequence parallel: off; precision: FP32
products  float32 (float32 95.1, bf16 88.3 by float32's instructions, GFLOP/s of a core; measured now)
batch     64 = micro-batch 4 x data 2 x 8 micro-batches; x 256 = 16.4K tokens per step
steps     500: 8.19M tokens in all; learning rate 0.002, warm-up 50, then COSINE
memory    rank 4, the fullest:
          weights          3.00 MiB
          gradients        1.50 KiB
          reserved         4.50 MiB
compute   328 GFLOP per step; MFU is of the measured peak, 150 GFLOP/s of all ranks together
)");
  summary.peak.vendor = 2e11;
  EXPECT_THAT(Describe(config, summary), HasSubstr("compute   328 GFLOP per step; MFU is of the vendor's peak, 200 "
                                                   "GFLOP/s of all ranks together (measured: 150 GFLOP/s)\n"));
}

Summary OfOneLayer() {
  Summary summary;
  summary.ranks = 1;
  summary.modules = {{"embedding", "layer 0", "head"}};
  return summary;
}

TEST(DescribeTest, CountsImages) {
  const RunConfig config = Filled(R"(
      model { family: VIT layers: 1 hidden: 16 heads: 2 image_size: 28 patch_size: 4 channels: 1 classes: 10 }
      training { steps: 500 global_batch: 64 micro_batch: 64 })", 1);
  const std::string text = Describe(config, OfOneLayer());
  EXPECT_THAT(text, HasSubstr("\nmodel     VIT: 1 layer, hidden 16, 2 heads, feed-forward 64, 28x28x1 pixels in patches of 4, "
                              "10 classes; 0 parameters\n"));
  EXPECT_THAT(text, HasSubstr(" x 1 micro-batch; 64 images of 49 patches per step\nsteps     500: 32.0K images in all; "));
}

TEST(DescribeTest, ShowsWhoseAttentionAGpuRuns) {
  const std::string model = "model { family: GPT layers: 1 hidden: 16 heads: 2 sequence_length: 4 }"
                            "training { global_batch: 1 precision: BF16 }";
  const Summary summary = OfOneLayer();
  EXPECT_THAT(Describe(Filled(model, 1), summary), Not(HasSubstr("attention")));
  EXPECT_THAT(Describe(Filled(model + "runtime { device: CUDA }", 1), summary),
              HasSubstr("; precision: BF16; attention: CUDNN\n"));
  EXPECT_THAT(Describe(Filled(model + "runtime { device: CUDA attention: CUDNN_DETERMINISTIC }", 1), summary),
              HasSubstr("; attention: CUDNN_DETERMINISTIC\n"));
  EXPECT_THAT(Describe(Filled("model { family: LSTM layers: 1 hidden: 16 sequence_length: 4 }"
                              "training { global_batch: 1 precision: BF16 } runtime { device: CUDA }", 1), summary),
              Not(HasSubstr("attention")));
}

TEST(DescribeTest, SaysThatSumsAreNotOrdered) {
  const std::string model = "model { family: GPT layers: 1 hidden: 16 heads: 2 sequence_length: 4 }"
                            "training { global_batch: 1 }";
  const Summary summary = OfOneLayer();
  EXPECT_THAT(Describe(Filled(model, 1), summary), Not(HasSubstr("sums")));
  EXPECT_THAT(Describe(Filled(model + "runtime { sums: FASTEST }", 1), summary),
              HasSubstr("\nsums      FASTEST: over ranks in the library's order; "));
}

TEST(DescribeTest, ShowsTheChunksOfAStage) {
  const RunConfig config = Filled("model { family: GPT layers: 5 hidden: 8 heads: 2 sequence_length: 4 }"
                                  "parallel { pipeline: 2 schedule: INTERLEAVED } training { global_batch: 2 }", 2);
  Summary summary;
  summary.ranks = 2;
  summary.modules = {{"embedding", "layer 0"}, {"layer 1"}, {"layer 2"}, {"layer 3", "layer 4", "head"}};
  EXPECT_THAT(Describe(config, summary),
              AllOf(HasSubstr("stage 0  embedding, layers 0, 2  |"), HasSubstr("stage 1  layers 1, 3-4, head"),
                    HasSubstr("INTERLEAVED of 2 chunks"), Not(HasSubstr("peak"))));
}

TEST(DescribeTest, LeavesOutTheMiddleOfALargeMesh) {
  const RunConfig config = Filled("model { family: GPT layers: 64 hidden: 64 heads: 16 sequence_length: 4 }"
                                  "parallel { tensor: 16 pipeline: 64 } training { global_batch: 128 }", 16 * 64 * 128);
  Summary summary;
  summary.ranks = 16 * 64 * 128;
  for (int i = 0; i < 64; ++i) summary.modules.push_back({"layer " + std::to_string(i)});
  const std::string text = Describe(config, summary);
  EXPECT_THAT(text, AllOf(HasSubstr("replica 127"), HasSubstr("stage 63  layers 63"), HasSubstr("stage 5"),
                          Not(HasSubstr("stage 6 ")), HasSubstr("|  131056 - 131071  |"),
                          Not(HasSubstr("replica 2 "))));
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    EXPECT_LE(end - begin, 110u) << text.substr(begin, end - begin);
  }
  EXPECT_LT(std::count(text.begin(), text.end(), '\n'), 40);
}

}  // namespace
}  // namespace trefoil
