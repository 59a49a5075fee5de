// Every (tensor, pipeline, data) in {1, 2, 4}^3 of at most 8 ranks, with and without sequence parallelism, all ZeRO
// stages, all schedules, both recipes, against the single rank. Two steps of each are part of the suite
// (layout_sweep_short_test); twenty, in bf16 too, take minutes, so by hand after a change of layers, schedules or placement:
//
//   bazel test //tests/model:layout_sweep_test --test_output=all
#include "tests/model/layout_testing.h"

namespace trefoil {
namespace {

// Nine layers: uneven over 2 and 4 stages, and over 2 x 2 and 4 x 2 chunks.
constexpr char kModel[] =
    "model { layers: 9 hidden: 16 heads: 8 kv_heads: 4 head_dim: 4 feed_forward: 24 vocabulary: 61 }"
    "training { micro_batch: 1 global_batch: 16 optimizer { clip_norm: 0 } } ";

std::vector<std::string> Layouts() {
  std::vector<std::string> layouts;
  for (const int t : {1, 2, 4}) {
    for (const int p : {1, 2, 4}) {
      for (const int d : {1, 2, 4}) {
        if (t * p * d > 8) continue;
        for (const char* sequence : {"false", "true"}) {
          for (const char* zero : {"OPTIMIZER", "NONE", "GRADIENTS", "WEIGHTS"}) {
            if (d == 1 && std::string(zero) != "OPTIMIZER") continue;  // all the same
            for (const char* schedule : {"GPIPE", "ONE_F_ONE_B", "INTERLEAVED"}) {
              const bool interleaved = std::string(schedule) == "INTERLEAVED";
              if ((*sequence == 't' && t == 1) || (interleaved && p == 1)) continue;  // not legal
              layouts.push_back("parallel { tensor: " + std::to_string(t) + " pipeline: " + std::to_string(p) +
                                " data: " + std::to_string(d) + " sequence_parallel: " + sequence + " zero: " + zero +
                                " schedule: " + schedule + " }");
            }
          }
        }
      }
    }
  }
  return layouts;
}

void Sweep(ModelConfig::Family family, int steps, const std::string& more, const Tolerances& tolerances) {
  const Trace reference = Train(TinyRun(family, kModel + more), steps);
  Deviation worst;
  std::string worst_layout;
  for (const std::string& layout : Layouts()) {
    SCOPED_TRACE(layout);
    const Trace trace = Train(TinyRun(family, kModel + more + layout), steps);
    ExpectSameRun(trace, reference, tolerances);
    const Deviation deviation = Compare(trace, reference);
    if (deviation.loss > worst.loss) worst_layout = layout;
    worst.loss = std::max(worst.loss, deviation.loss);
    worst.norm = std::max(worst.norm, deviation.norm);
  }
  std::printf("%zu layouts, %d steps, loss %.4f -> %.4f; worst relative deviation: loss %.2e (%s), norm %.2e\n",
              Layouts().size(), steps, reference.losses.front(), reference.losses.back(), worst.loss,
              worst_layout.c_str(), worst.norm);
}

TEST(LayoutSweepTest, GptTwoSteps) { Sweep(ModelConfig::GPT, 2, "", {}); }
TEST(LayoutSweepTest, LlamaTwoSteps) { Sweep(ModelConfig::LLAMA, 2, "", {}); }
TEST(LayoutSweepTest, Gpt) { Sweep(ModelConfig::GPT, 20, "", {.loss = 1e-5, .norm = 1e-4}); }
TEST(LayoutSweepTest, Llama) { Sweep(ModelConfig::LLAMA, 20, "", {.loss = 1e-5, .norm = 1e-4}); }
TEST(LayoutSweepTest, GptInBFloat16) {
  Sweep(ModelConfig::GPT, 20, "training { precision: BF16 } ", {.loss = 3e-3, .norm = 2e-2, .gradient = 0.15, .projection = 0.03, .state = 0.3, .noise = 0.02});
}
TEST(LayoutSweepTest, LlamaInBFloat16) {
  Sweep(ModelConfig::LLAMA, 20, "training { precision: BF16 } ", {.loss = 3e-3, .norm = 2e-2, .gradient = 0.15, .projection = 0.03, .state = 0.3, .noise = 0.02});
}

}  // namespace
}  // namespace trefoil
