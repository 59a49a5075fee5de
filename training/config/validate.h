// What a run's config must satisfy before anything is built.
//
//   FillDefaults(&config, ranks, bf16);
//   for (const std::string& line : Violations(config, ranks)) ...
//
// gives, for example,
//   parallel: tensor 3 x pipeline 1 x data 2 = 6, but the job has 8 ranks; nearest legal: tensor 4 x pipeline 1 x ...
//   model.kv_heads: 6 is not a multiple of parallel.tensor 4; nearest tensor sizes that divide it: 3, 6
//
// Each line names the field, the value found, the rule, and the nearest legal value. All violations are found at once;
// a field that is wrong by itself (negative, not finite, missing) is reported once and takes part in no further rule.
// Pure functions of their arguments.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "training/run.pb.h"

namespace trefoil {

// Replaces what "0:" and "Unset:" stand for in model/model.proto by its value. kv_heads, head_dim, feed_forward stay 0
// where heads or hidden do not allow a value (Violations says why). The vocabulary stays 0 until a tokenizer is known, and
// 0 is a violation.
void ModelDefaults(ModelConfig* model);

// Of one evaluation where training.evaluate_samples is left open.
inline constexpr int kEvaluationSamples = 256;

// What training.precision and runtime.bf16_products become where they are left open.
struct Bf16Defaults {
  bool pays = false;  // BF16, else FP32
  RuntimeConfig::Bf16Products products = RuntimeConfig::NATIVE;  // BF16_PRODUCTS_UNSET: stays open, as on GPUs
};

// Does so for the whole config, so that the program reads every field as it stands. What stays 0 or empty: switches
// whose 0 is a value of its own (every_steps, evaluate_every_steps, warmup_steps, dropout), model.vocabulary and
// data.tokenizer (the data says), runtime.threads (the machine says). evaluate_samples becomes kEvaluationSamples: an
// upper bound, since the held-out set may hold fewer. Any input is accepted; filling twice is filling once.
// ranks: of the job, at least 1. bf16: by what the machine is (launcher/cluster/product_choice.h).
void FillDefaults(RunConfig* config, int ranks, const Bf16Defaults& bf16);

// Every rule that a filled config breaks, one line each; empty: legal.
std::vector<std::string> Violations(const RunConfig& config, int ranks);

// What of a run on GPUs keeps cuDNN from its attention, with the reason; empty if nothing does. The config is filled but for
// runtime.attention.
std::string WhyNoCudnn(const RunConfig& config);

// Why the steps of a run on GPUs cannot be recorded (runtime.graphs ON): the field in the way, what was found and the
// rule; empty if they can. The config is filled but for runtime.graphs.
std::string WhyNoGraphs(const RunConfig& config);

}  // namespace trefoil
