// Networks of the families behind GPT and LLAMA on many ranks against one: every way to split them, on the samples of their
// golden fixtures, which one rank is held against in golden_families_test.cc.
#include "model/model_rules.h"
#include "tests/model/golden_testing.h"
#include "tests/model/layout_testing.h"

namespace trefoil {
namespace {

constexpr int kSteps = 3;
// Nothing is clipped, so that the moments tell the gradients; of samples in pairs any number of tokens is even.
constexpr char kWhole[] = "training { optimizer { clip_norm: 0 } micro_batch: 2 }";

class FamiliesLayoutsTest : public testing::TestWithParam<const char*> {
 protected:
  Trace Run(const std::string& layout) const {
    return Train(GoldenConfig(golden_, kWhole + layout), kSteps, GoldenBatches(golden_));
  }
  void Expect(const std::vector<std::string>& layouts) {
    const Trace reference = Run("");
    for (const std::string& layout : layouts) {
      SCOPED_TRACE(layout);
      ExpectSameRun(Run(layout), reference, {.loss = 1e-5, .norm = 1e-4, .gradient = 1e-4, .projection = 3e-4});
    }
  }
  bool HasBlocks(int blocks) const { return BlocksOf(GoldenConfig(golden_).model()) >= blocks; }

  const Fixture golden_{std::string("tests/golden/") + GetParam() + ".safetensors"};
};

INSTANTIATE_TEST_SUITE_P(Networks, FamiliesLayoutsTest,
                         testing::Values("bert", "modern_bert", "bert_classes", "transformer", "t5", "t5_tied", "vit", "mae",
                                         "rnn", "lstm", "lstm_classes"),
                         [](const testing::TestParamInfo<const char*>& info) { return info.param; });

TEST_P(FamiliesLayoutsTest, Tensor) {
  Expect({"parallel { tensor: 2 }", "parallel { tensor: 2 sequence_parallel: true }",
          "parallel { tensor: 2 sequence_parallel: true data: 2 zero: NONE }",
          "parallel { tensor: 2 recompute: SELECTIVE }",
          "parallel { tensor: 2 sequence_parallel: true recompute: FULL }"});
}

TEST_P(FamiliesLayoutsTest, Data) {
  Expect({"parallel { data: 2 }", "parallel { data: 2 zero: NONE }",
          "parallel { data: 4 } training { micro_batch: 1 }", "parallel { data: 2 zero: GRADIENTS }",
          "parallel { data: 2 zero: WEIGHTS }",
          "parallel { data: 4 zero: WEIGHTS recompute: FULL } training { micro_batch: 1 }"});
}

TEST_P(FamiliesLayoutsTest, Pipeline) {
  Expect({"parallel { pipeline: 2 }", "parallel { pipeline: 2 } training { micro_batch: 1 }",
          "parallel { pipeline: 2 schedule: GPIPE recompute: FULL } training { micro_batch: 1 }",
          "parallel { pipeline: 2 data: 2 } training { micro_batch: 1 }"});
  if (!HasBlocks(4)) return;
  Expect({"parallel { pipeline: 4 } training { micro_batch: 1 }",
          "parallel { pipeline: 2 schedule: INTERLEAVED chunks: 2 } training { micro_batch: 1 }"});
}

// Of those whose tokens ranks can share.
TEST_P(FamiliesLayoutsTest, Context) {
  RunConfig config = GoldenConfig(golden_);
  config.mutable_parallel()->set_context(2);
  if (!CanShareTokens(config.model(), config.parallel())) return;
  Expect({"parallel { context: 2 }", "parallel { context: 2 context_method: ALL_TO_ALL }",
          "parallel { context: 2 tensor: 2 sequence_parallel: true pipeline: 2 recompute: FULL }",
          "parallel { context: 2 data: 2 zero: NONE }"});
}

TEST_P(FamiliesLayoutsTest, AllTogether) {
  Expect({"parallel { tensor: 2 pipeline: 2 sequence_parallel: true }",
          "parallel { tensor: 2 pipeline: 2 data: 2 sequence_parallel: true recompute: SELECTIVE }",
          "parallel { tensor: 2 pipeline: 2 data: 2 sequence_parallel: true zero: GRADIENTS }",
          "parallel { tensor: 2 pipeline: 2 data: 2 zero: WEIGHTS schedule: GPIPE } training { micro_batch: 1 }"});
}

}  // namespace
}  // namespace trefoil
