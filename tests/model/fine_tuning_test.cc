// Runs that train some of their parameters, or some of them more slowly (training/fine_tuning.h): against the same run
// of the whole model, and on many ranks against one.
#include "training/fine_tuning.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

#include <cmath>

#include "tests/model/golden_testing.h"
#include "tests/model/layout_testing.h"

namespace trefoil {
namespace {

constexpr int kSteps = 3;
// Nothing is clipped, so that the moments tell the gradients.
constexpr char kNoClip[] = "training { optimizer { clip_norm: 0 } micro_batch: 2 } ";

std::string Tuning(const std::string& text) { return absl::StrCat("training { fine_tuning { ", text, " } } "); }

std::vector<float> Difference(const std::vector<float>& a, const std::vector<float>& b) {
  std::vector<float> difference;
  for (size_t i = 0; i < a.size(); ++i) difference.push_back(a[i] - b[i]);
  return difference;
}

double SumOfProducts(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * b[i];
  return sum;
}

bool BeginsWithOneOf(const std::string& name, const std::vector<std::string>& parts) {
  return std::any_of(parts.begin(), parts.end(), [&](const std::string& part) { return absl::StartsWith(name, part); });
}

// Block l of L has d^(L + 1 - l), the embedding d^(L + 1), what is behind the last block 1.
TEST(FineTuning, LayerDecayGivesEachLayerItsRate) {
  const Trace whole = Train(TinyRun(ModelConfig::LLAMA, kNoClip), 1);
  const Trace decayed = Train(TinyRun(ModelConfig::LLAMA, kNoClip + Tuning("layer_decay: 0.5")), 1);
  EXPECT_EQ(decayed.losses, whole.losses);
  EXPECT_EQ(decayed.norms, whole.norms);
  const std::map<std::string, double> rates = {
      {"embedding.", 1 / 16.0}, {"blocks.0.", 1 / 8.0}, {"blocks.1.", 1 / 4.0}, {"blocks.2.", 1 / 2.0}, {"head.", 1}};
  std::map<std::string, int> found;
  for (const auto& [name, values] : whole.last) {
    if (absl::StrContains(name, "/")) continue;
    const auto rate =
        std::find_if(rates.begin(), rates.end(), [&](const auto& r) { return absl::StartsWith(name, r.first); });
    ASSERT_NE(rate, rates.end()) << name;
    const std::vector<float> step = Difference(values, whole.initial.at(name));
    const std::vector<float> tuned = Difference(decayed.last.at(name), decayed.initial.at(name));
    EXPECT_NEAR(SumOfProducts(tuned, step) / SumOfProducts(step, step), rate->second, 1e-3 * rate->second) << name;
    ++found[rate->first];
  }
  EXPECT_EQ(found.size(), rates.size());
}

// An encoder-decoder's blocks count together.
TEST(FineTuning, LayerDecayOfAnEncoderDecoder) {
  const RunConfig config = TinyRun(
      ModelConfig::T5,
      "model { layers: 2 decoder_layers: 1 vocabulary: 200 sequence_length: 16 } task { kind: SPAN_CORRUPTION } " +
          Tuning("layer_decay: 0.5"));
  const ParameterTable table = DeclareRun(config);
  for (const auto& [name, rate] : std::map<std::string, double>{{"embedding.token.weight", 1 / 16.0},
                                                                {"blocks.0.mlp.up.weight", 1 / 8.0},
                                                                {"blocks.1.mlp.up.weight", 1 / 4.0},
                                                                {"encoder.norm.weight", 1 / 4.0},
                                                                {"decoder.blocks.0.mlp.up.weight", 1 / 2.0},
                                                                {"head.output.weight", 1}}) {
    EXPECT_DOUBLE_EQ(table.Find(name).rate, rate) << name;
  }
}

// What is not trained keeps its bits and is in no norm and no state; the rest has the gradients that it has in the
// whole model, to the bit.
void ExpectFrozen(const Trace& trace, const Trace& whole, const std::vector<std::string>& frozen) {
  EXPECT_EQ(trace.losses[0], whole.losses[0]);
  double squares = 0;
  int kept = 0, trained = 0;
  for (const auto& [name, values] : trace.initial) {
    if (absl::StrContains(name, "/")) continue;
    const bool is_frozen = BeginsWithOneOf(name, frozen);
    EXPECT_EQ(trace.last.contains("adam.m/" + name), !is_frozen) << name;
    EXPECT_EQ(trace.last.contains("adam.v/" + name), !is_frozen) << name;
    if (is_frozen) {
      EXPECT_EQ(trace.last.at(name), values) << name;
      ++kept;
      continue;
    }
    ++trained;
    const std::vector<float>& gradient = trace.first.at("adam.m/" + name);
    EXPECT_EQ(gradient, whole.first.at("adam.m/" + name)) << name;
    squares += SumOfProducts(gradient, gradient) / (0.1 * 0.1);  // (1 - beta1) of it
  }
  EXPECT_NEAR(trace.norms[0], std::sqrt(squares), 1e-5 * trace.norms[0]);
  EXPECT_LT(trace.norms[0], whole.norms[0]);
  EXPECT_GT(kept, 0);
  EXPECT_GT(trained, 0);
}

TEST(FineTuning, WhatIsFrozenKeepsItsBits) {
  struct Case {
    std::string tuning;
    std::vector<std::string> frozen;
  };
  const Case cases[] = {
      {"frozen_layers: 2", {"embedding.", "blocks.0.", "blocks.1."}},
      {"freeze: 'embedding'", {"embedding."}},
      // There are gradients through these, to what is before them.
      {"freeze: 'blocks.1' freeze: 'head.norm'", {"blocks.1.", "head.norm."}},
      {"freeze: 'blocks.0.attention' freeze: 'blocks.2.mlp.down' freeze: 'head.output.weight'",
       {"blocks.0.attention.", "blocks.2.mlp.down.", "head.output.weight"}},
      {"frozen_layers: 3", {"embedding.", "blocks."}},
  };
  for (const char* kind : {"", "training { precision: BF16 } ", "parallel { recompute: FULL } "}) {
    const Trace whole = Train(TinyRun(ModelConfig::LLAMA, absl::StrCat(kNoClip, kind)), kSteps);
    for (const Case& c : cases) {
      SCOPED_TRACE(kind + c.tuning);
      ExpectFrozen(Train(TinyRun(ModelConfig::LLAMA, absl::StrCat(kNoClip, kind, Tuning(c.tuning))), kSteps), whole,
                   c.frozen);
    }
  }
}

// A matrix without its bias, a bias without its matrix, norms of two parameters.
TEST(FineTuning, BiasesAreTrainedByThemselves) {
  const Trace whole = Train(TinyRun(ModelConfig::GPT, kNoClip), kSteps);
  const std::vector<std::string> weights = {"blocks.0.attention.q.weight",    "blocks.0.attention.k.weight",
                                            "blocks.0.attention.v.weight",    "blocks.0.attention.output.weight",
                                            "blocks.0.mlp.up.weight",         "blocks.0.mlp.down.weight",
                                            "blocks.1.attention.output.bias", "blocks.1.mlp.up.bias",
                                            "blocks.0.mlp_norm.weight",       "blocks.1.mlp_norm.bias"};
  std::string tuning;
  for (const std::string& name : weights) absl::StrAppend(&tuning, "freeze: '", name, "' ");
  for (const char* layout : {"", "parallel { tensor: 2 sequence_parallel: true } "}) {
    SCOPED_TRACE(layout);
    const Trace of_layout = Train(TinyRun(ModelConfig::GPT, absl::StrCat(kNoClip, layout)), kSteps);
    ExpectFrozen(Train(TinyRun(ModelConfig::GPT, absl::StrCat(kNoClip, layout, Tuning(tuning))), kSteps), of_layout,
                 weights);
  }
}

// Frozen layers drop nothing, on whatever stage they are; the others do.
TEST(FineTuning, FrozenLayersRunAsInAnEvaluation) {
  const std::string dropout = absl::StrCat("model { dropout: 0.3 layers: 4 } ", kNoClip);
  const Trace frozen = Train(TinyRun(ModelConfig::GPT, dropout + Tuning("frozen_layers: 3")), kSteps);
  EXPECT_NE(frozen.losses[0], Train(TinyRun(ModelConfig::GPT, dropout), 1).losses[0]);
  EXPECT_NE(frozen.losses,
            Train(TinyRun(ModelConfig::GPT, absl::StrCat("model { layers: 4 } ", kNoClip, Tuning("frozen_layers: 3"))),
                  kSteps)
                .losses);
  for (const char* layout : {"pipeline: 2", "pipeline: 4", "pipeline: 2 schedule: INTERLEAVED", "tensor: 2 data: 2"}) {
    SCOPED_TRACE(layout);
    ExpectSameRun(Train(TinyRun(ModelConfig::GPT,
                                absl::StrCat(dropout, "parallel { ", layout, " } ", Tuning("frozen_layers: 3"))),
                        kSteps),
                  frozen);
  }
}

constexpr const char* kLayouts[] = {
    "parallel { tensor: 2 }",
    "parallel { tensor: 2 sequence_parallel: true data: 2 }",
    "parallel { data: 2 zero: NONE }",
    "parallel { data: 2 zero: GRADIENTS }",
    "parallel { pipeline: 2 data: 2 zero: WEIGHTS } training { micro_batch: 1 }",
    "parallel { pipeline: 2 } training { micro_batch: 1 }",
    "parallel { tensor: 2 pipeline: 2 data: 2 sequence_parallel: true recompute: SELECTIVE }",
};
constexpr Tolerances kTolerances = {.loss = 1e-5, .norm = 1e-4, .gradient = 1e-4, .projection = 3e-4};

TEST(FineTuning, IsTheSameRunOnEveryLayout) {
  for (const ModelConfig::Family family : {ModelConfig::LLAMA, ModelConfig::GPT}) {
    for (const char* tuning :
         {"frozen_layers: 2 layer_decay: 0.7 freeze: 'head.norm'", "freeze: 'embedding' freeze: 'blocks.1'"}) {
      const auto run = [&](const std::string& layout) {
        return Train(TinyRun(family, absl::StrCat(kNoClip, Tuning(tuning), layout)), kSteps);
      };
      const Trace reference = run("");
      for (const char* layout : kLayouts) {
        SCOPED_TRACE(absl::StrCat(tuning, " ", layout));
        ExpectSameRun(run(layout), reference, kTolerances);
      }
    }
  }
}

struct Network {
  const char* fixture;
  const char* freeze;  // besides the first layer
};

class FineTuningLayouts : public testing::TestWithParam<Network> {};

TEST_P(FineTuningLayouts, AreTheSameRun) {
  const Fixture golden(std::string("tests/golden/") + GetParam().fixture + ".safetensors");
  for (const std::string& tuning :
       {absl::StrCat("frozen_layers: 1 layer_decay: 0.7 ", GetParam().freeze), std::string(GetParam().freeze)}) {
    const auto run = [&](const std::string& layout) {
      return Train(GoldenConfig(golden, absl::StrCat(kNoClip, Tuning(tuning), layout)), kSteps, GoldenBatches(golden));
    };
    const Trace reference = run("");
    for (const char* layout : kLayouts) {
      SCOPED_TRACE(absl::StrCat(tuning, " ", layout));
      ExpectSameRun(run(layout), reference, kTolerances);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Networks, FineTuningLayouts,
    testing::Values(Network{"bert", "freeze: 'embedding.token'"}, Network{"bert_classes", "freeze: 'embedding'"},
                    Network{"transformer", "freeze: 'embedding'"}, Network{"t5", "freeze: 'encoder.relative'"},
                    Network{"vit", "freeze: 'embedding'"}, Network{"mae", "freeze: 'decoder.position'"},
                    Network{"lstm_classes", "freeze: 'embedding'"}),
    [](const auto& info) { return info.param.fixture; });

}  // namespace
}  // namespace trefoil
