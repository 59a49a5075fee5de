// Plans beside what others have published: parameters and FLOPs by their formulas, activations by Korthikanti's, and the
// speeds of real runs on the cluster that they ran on.
#include <absl/strings/str_format.h>
#include <gtest/gtest.h>

#include "launcher/config/config.h"
#include "planner/layout_search.h"
#include "training/config/validate.h"

namespace trefoil {
namespace {

struct Published {
  const char* parameters;  // billions, as printed
  int heads, hidden, layers, tensor, pipeline, gpus, batch, micro_batch, chunks;
  double teraflops;    // of each GPU, recomputation counted; or
  double utilisation;  // of the model's FLOPs, percent: with sequence parallelism and selective recomputation
};

// Narayanan et al. 2021, table 1, and Korthikanti et al. 2022, table 5: s = 2048, V = 51200. Neither says how many chunks
// the interleaved schedule had in table 1; the fewest are taken.
constexpr Published kRuns[] = {
    {"1.7", 24, 2304, 24, 1, 1, 32, 512, 16, 1, 137, 0},
    {"18.4", 48, 6144, 40, 8, 1, 256, 1024, 8, 1, 135, 0},
    {"145.6", 96, 12288, 80, 8, 8, 1536, 2304, 2, 2, 148, 0},
    {"1008.0", 160, 25600, 128, 8, 64, 3072, 3072, 1, 2, 163, 0},
    {"22", 64, 6144, 48, 8, 1, 8, 4, 4, 1, 0, 41.5},
    {"175", 96, 12288, 96, 8, 8, 64, 64, 1, 3, 0, 51.4},
    {"530", 128, 20480, 105, 8, 35, 280, 280, 1, 3, 0, 56.0},
    {"1000", 160, 25600, 128, 8, 64, 512, 512, 1, 2, 0, 56.3},
};

constexpr double kTokens = 2048, kVocabulary = 51200;

RunConfig ConfigOf(const Published& run) {
  RunConfig config;
  ModelConfig& model = *config.mutable_model();
  model.set_family(ModelConfig::GPT);
  model.set_heads(run.heads);
  model.set_hidden(run.hidden);
  model.set_layers(run.layers);
  model.set_vocabulary(static_cast<int>(kVocabulary));
  model.set_sequence_length(static_cast<int>(kTokens));
  ParallelConfig& parallel = *config.mutable_parallel();
  parallel.set_tensor(run.tensor);
  parallel.set_pipeline(run.pipeline);
  parallel.set_zero(ParallelConfig::NONE);
  parallel.set_recompute(run.teraflops > 0 ? ParallelConfig::FULL : ParallelConfig::SELECTIVE);
  parallel.set_sequence_parallel(run.teraflops == 0);
  if (run.chunks > 1) {
    parallel.set_schedule(ParallelConfig::INTERLEAVED);
    parallel.set_chunks(run.chunks);
  }
  config.mutable_training()->set_global_batch(run.batch);
  config.mutable_training()->set_micro_batch(run.micro_batch);
  config.mutable_training()->set_precision(TrainingConfig::BF16);
  config.mutable_training()->set_steps(1);
  config.set_folder("none");
  config.mutable_data()->add_train("none");
  FillDefaults(&config, run.gpus, {.pays = true});
  EXPECT_EQ(Violations(config, run.gpus), std::vector<std::string>());
  return config;
}

Cluster Selene() {
  const absl::StatusOr<Cluster> cluster = ReadCluster(FileSystem::Posix(), "selene_a100");
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  return *cluster;
}

// 96 B s l h^2, of which the printed formula of FLOPs with full recomputation is a multiple.
double Blocks(const Published& run) {
  return 96.0 * run.batch * kTokens * run.layers * run.hidden * static_cast<double>(run.hidden);
}

TEST(PublishedPlans, ParametersToThePrintedDigit) {
  for (const Published& run : kRuns) {
    if (run.teraflops == 0) continue;  // rounded names
    const Plan plan = Planner().Make(ConfigOf(run), run.gpus);
    EXPECT_EQ(absl::StrFormat("%.1f", static_cast<double>(plan.parameters) * 1e-9), run.parameters);
  }
}

// FLOPs of a step = 96 B s l h^2 (1 + s/(6h) + V/(16 l h)). Ours differ in the second term alone: attention is causal, which
// halves it, and its backward computes the scores once more: 9/16 of what the formula counts.
TEST(PublishedPlans, FlopsFollowTheFormula) {
  for (const Published& run : kRuns) {
    if (run.teraflops == 0) continue;
    const Plan plan = Planner().Make(ConfigOf(run), run.gpus);
    double products = 0, attention = 0;
    for (const StagePlan& stage : plan.stages) {
      for (const auto& [op, total] : stage.ops) {
        const double flops = total.flops * run.gpus / run.pipeline;
        if (op.starts_with("matmul") || op == "weight_gradient") products += flops;
        if (op.starts_with("attention")) attention += flops;
      }
    }
    const double blocks = Blocks(run), h = run.hidden;
    EXPECT_NEAR(products / (blocks * (1 + kVocabulary / (16 * run.layers * h))), 1, 1e-9) << run.parameters;
    EXPECT_NEAR(attention / (blocks * kTokens / (6 * h)), 9.0 / 16, 1e-9) << run.parameters;
    EXPECT_NEAR((products + attention) / plan.counted_flops, 1, 1e-9);
  }
}

int64_t Activations(RunConfig config, int layers) {
  config.mutable_model()->set_layers(layers);
  const Plan plan = Planner().Make(config, config.parallel().tensor());
  return plan.stages.front().memory.peak[static_cast<size_t>(Purpose::kActivations)];
}

// Bytes per layer = s b h / t (34 + 5 a s / h) with tensor and sequence parallelism. Of these fall away: 5 a s / h, since
// attention keeps no scores but their log-sum-exp (4 a s b / t), and 2, since dropout's masks are computed again; what the
// formula leaves out are the norms' statistics, 16 s b / t.
TEST(PublishedPlans, ActivationsFollowKorthikanti) {
  const Published& run = kRuns[4];
  RunConfig config = ConfigOf(run);
  config.mutable_model()->set_dropout(0.1f);
  config.mutable_training()->set_global_batch(run.micro_batch);
  const int64_t sbt = int64_t{2048} * run.micro_batch / run.tensor;
  config.mutable_parallel()->set_recompute(ParallelConfig::NOTHING);
  EXPECT_EQ(Activations(config, 9) - Activations(config, 8), sbt * ((34 - 2) * run.hidden + 4 * run.heads + 16));
  config.mutable_parallel()->set_recompute(ParallelConfig::FULL);
  EXPECT_EQ(Activations(config, 9) - Activations(config, 8), sbt * 2 * run.hidden);
}

// One set of constants for all of them.
TEST(PublishedPlans, SpeedsOfEightRuns) {
  Planner planner(Selene());
  for (const Published& run : kRuns) {
    const Plan plan = planner.Make(ConfigOf(run), run.gpus);
    const double h = run.hidden, logits = kVocabulary / (16 * run.layers * h);
    double ours = 0, published = 0;
    if (run.teraflops > 0) {
      ours = Blocks(run) * (1 + kTokens / (6 * h) + logits) / run.gpus / plan.step_seconds * 1e-12;
      published = run.teraflops;
    } else {
      const double flops = 0.75 * Blocks(run) * (1 + kTokens / (6 * h) + kVocabulary / (12 * run.layers * h));
      ours = 100 * flops / plan.step_seconds / plan.peak_flops;
      published = run.utilisation;
    }
    std::cout << absl::StrFormat("%6sB on %4d GPUs: planned %6.1f, published %6.1f, %+.1f%%\n", run.parameters, run.gpus,
                                 ours, published, 100 * (ours / published - 1));
    EXPECT_NEAR(ours / published, 1, 0.15) << run.parameters;
    EXPECT_TRUE(plan.fits());
  }
}

// The published layout of the trillion-parameter model is among those that a search finds fastest.
TEST(PublishedPlans, SearchFindsThePublishedLayout) {
  const Published& run = kRuns[3];
  Planner planner(Selene());
  const SearchResult found = SearchLayouts(ConfigOf(run), run.gpus, planner,
                                           {.pinned = {"micro_batch"}, .simulated = 16, .progress = nullptr});
  bool published = false;
  for (size_t i = 0; i < found.fits.size() && i < 10; ++i) {
    const ParallelConfig& parallel = found.fits[i].config.parallel();
    published |= parallel.tensor() == 8 && parallel.pipeline() == 64 && parallel.data() == 6;
    if (i > 0) {
      EXPECT_LE(found.fits[i - 1].seconds, found.fits[i].seconds);
    }
    EXPECT_LE(static_cast<double>(found.fits[i].reserved), planner.MemoryLimit(found.fits[i].config, run.gpus));
  }
  EXPECT_TRUE(published);
  EXPECT_FALSE(found.too_large.empty());
  for (const Layout& layout : found.too_large) {
    EXPECT_GT(static_cast<double>(layout.reserved), planner.MemoryLimit(layout.config, run.gpus));
  }
}

}  // namespace
}  // namespace trefoil
