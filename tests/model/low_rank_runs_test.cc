// Runs with low-rank adapters: what is trained, and every layout against one rank.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

#include "model/layers/low_rank.h"
#include "tests/model/golden_testing.h"
#include "tests/model/layout_testing.h"

namespace trefoil {
namespace {

constexpr int kSteps = 4;
// Nothing is clipped, so that the moments tell the gradients. Steps are long, so that B is soon not near zero.
constexpr char kTraining[] = "training { optimizer { clip_norm: 0 learning_rate: 0.02 } micro_batch: 2 } ";
constexpr char kEverywhere[] =
    "model { lora { rank: 3 alpha: 6 on: QUERY on: KEY on: VALUE on: OUTPUT on: UP on: DOWN } } ";

TEST(LowRank, OnlyAdaptersAreTrained) {
  const Trace trace =
      Train(TinyRun(ModelConfig::LLAMA, absl::StrCat(kTraining, kEverywhere, "model { lora { on: GATE } }")), kSteps);
  int adapters = 0;
  for (const auto& [name, values] : trace.initial) {
    if (absl::StrContains(name, "/")) continue;
    EXPECT_EQ(trace.last.contains("adam.m/" + name), IsAdapter(name)) << name;
    EXPECT_EQ(trace.last.at(name) == values, !IsAdapter(name)) << name;
    if (name.ends_with(".lora_b")) {
      EXPECT_EQ(values, std::vector<float>(values.size())) << name;
    }
    adapters += IsAdapter(name) ? 1 : 0;
  }
  EXPECT_EQ(adapters, 3 * 7 * 2);
  // They change nothing at first.
  EXPECT_EQ(trace.losses[0], Train(TinyRun(ModelConfig::LLAMA, kTraining), 1).losses[0]);
  EXPECT_LT(trace.losses.back(), trace.losses[0]);
}

void ExpectSameRuns(const std::function<Trace(const std::string& layout)>& run) {
  const Trace reference = run("");
  for (const char* layout : {"parallel { tensor: 2 }", "parallel { tensor: 2 sequence_parallel: true }",
                             "parallel { tensor: 2 sequence_parallel: true data: 2 zero: NONE }",
                             "parallel { data: 2 recompute: SELECTIVE }", "parallel { data: 2 zero: GRADIENTS }",
                             "parallel { data: 4 zero: WEIGHTS } training { micro_batch: 1 }",
                             "parallel { tensor: 2 pipeline: 2 data: 2 zero: WEIGHTS recompute: FULL } "
                             "training { micro_batch: 1 }",
                             "parallel { pipeline: 2 recompute: FULL } training { micro_batch: 1 }",
                             "parallel { tensor: 2 pipeline: 2 data: 2 } training { micro_batch: 1 }"}) {
    SCOPED_TRACE(layout);
    ExpectSameRun(run(layout), reference, {.loss = 1e-5, .norm = 1e-4, .gradient = 1e-4, .projection = 3e-4});
  }
}

TEST(LowRank, RunsAreTheSameOnEveryLayout) {
  for (const ModelConfig::Family family : {ModelConfig::LLAMA, ModelConfig::GPT}) {
    ExpectSameRuns([&](const std::string& layout) {
      return Train(TinyRun(family, absl::StrCat(kTraining, kEverywhere, layout)), kSteps);
    });
  }
  // Slower ones below, and some frozen.
  ExpectSameRuns([&](const std::string& layout) {
    return Train(TinyRun(ModelConfig::LLAMA,
                         absl::StrCat(kTraining,
                                      "model { lora { rank: 2 on: VALUE on: GATE } } training { fine_tuning { "
                                      "layer_decay: 0.5 frozen_layers: 1 } } ",
                                      layout)),
                 kSteps);
  });
}

TEST(LowRank, RunsOfOtherFamiliesAreTheSameOnEveryLayout) {
  for (const char* name : {"bert_classes", "t5", "vit", "mae"}) {
    SCOPED_TRACE(name);
    const Fixture golden(absl::StrCat("tests/golden/", name, ".safetensors"));
    ExpectSameRuns([&](const std::string& layout) {
      return Train(GoldenConfig(golden, absl::StrCat(kTraining, kEverywhere, layout)), kSteps, GoldenBatches(golden));
    });
  }
}

}  // namespace
}  // namespace trefoil
