// Every (tensor, context, pipeline, data) in {1, 2, 4}^4 of at most 8 ranks, by both methods of context parallelism,
// with and without sequence parallelism, all ZeRO stages (with context two of them), all schedules, both recipes,
// against the single rank. Two steps of each, of a GPT, are part of the suite (layout_sweep_short_test), and twenty of
// layouts in which every two features meet (layout_pairs_test). Twenty of all, in bf16 too, take minutes, so by hand after
// a change of layers, schedules or placement:
//
//   bazel test //tests/model:layout_sweep_test --test_output=all
#include "parallel/pipeline/schedule.h"
#include "tests/model/layout_testing.h"

namespace trefoil {
namespace {

// Nine layers: uneven over 2 and 4 stages, and over 2 x 2 and 4 x 2 chunks.
constexpr char kModel[] =
    "model { layers: 9 hidden: 16 heads: 8 kv_heads: 4 head_dim: 4 feed_forward: 24 vocabulary: 61 }"
    "training { micro_batch: 1 global_batch: 16 optimizer { clip_norm: 0 } } ";

// Of key/value heads, which ALL_TO_ALL shares out among the context ranks.
constexpr int kKvHeads = 4;

// The choices beside a mesh.
void AddLayouts(const std::string& mesh, int tensor, int context, int pipeline, int data,
                std::vector<std::string>* layouts) {
  for (const char* method : {"RING", "ALL_TO_ALL"}) {
    const bool exchanges = std::string(method) == "ALL_TO_ALL";
    if (exchanges && (context == 1 || kKvHeads / tensor % context != 0)) continue;
    for (const char* sequence : {"false", "true"}) {
      for (const std::string zero : {"OPTIMIZER", "NONE", "GRADIENTS", "WEIGHTS"}) {
        if (data * context == 1 && zero != "OPTIMIZER") continue;  // all the same
        if (context > 1 && (zero == "NONE" || zero == "GRADIENTS")) continue;
        for (const ScheduleEntry& schedule : Schedules()) {
          const bool fits = pipeline >= schedule.least_stages && 16 / data >= schedule.least_micro_batches(pipeline);
          if ((*sequence == 't' && tensor == 1) || !fits) continue;  // not legal
          // Of what is alike to the context axis one.
          const bool zero_bubble = schedule.schedule > ParallelConfig::INTERLEAVED;
          if (context > 1 && zero_bubble && schedule.schedule != ParallelConfig::ZB_V) continue;
          layouts->push_back("parallel { " + mesh + " context_method: " + method + " sequence_parallel: " + sequence +
                             " zero: " + zero + " schedule: " + ParallelConfig::Schedule_Name(schedule.schedule) + " }");
        }
      }
    }
  }
}

std::vector<std::string> Layouts() {
  std::vector<std::string> layouts;
  for (const int t : {1, 2, 4}) {
    for (const int c : {1, 2, 4}) {
      for (const int p : {1, 2, 4}) {
        for (const int d : {1, 2, 4}) {
          if (t * c * p * d > 8) continue;
          AddLayouts("tensor: " + std::to_string(t) + " context: " + std::to_string(c) + " pipeline: " +
                         std::to_string(p) + " data: " + std::to_string(d),
                     t, c, p, d, &layouts);
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
    worst.Raise(deviation);
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
