#include "training/config/idle_options.h"

#include <absl/strings/str_cat.h>

#include "parallel/axes.h"

namespace trefoil {
namespace {

std::string ScheduleText(const RunConfig& filled) {
  return OptimizerConfig::Schedule_Name(filled.training().optimizer().schedule());
}

// A row for each option that depends on another.
struct Row {
  const char* path;
  // Its value if it is given; empty if not.
  std::string (*value)(const RunConfig& given);
  // "without data.held_out", if that is so; empty if the option has its effect.
  std::string (*why)(const RunConfig& filled);
};

std::string WithoutHeldOut(const RunConfig& filled) {
  return filled.data().held_out().empty() ? "without data.held_out" : "";
}

std::string OnGpus(const RunConfig& filled) {
  return filled.runtime().device() == RuntimeConfig::CUDA ? "with runtime.device CUDA" : "";
}

template <typename T>
std::string IfNot(T none, T value) {
  return value == none ? "" : absl::StrCat(value);
}

const Row kRows[] = {
    {"data.weights",
     [](const RunConfig& given) { return given.data().weights().empty() ? std::string() : absl::StrCat(given.data().weights(0)); },
     [](const RunConfig& filled) { return filled.data().train_size() == 1 ? std::string("with one entry of data.train") : ""; }},
    {"training.evaluate_every_steps",
     [](const RunConfig& given) { return IfNot(0, given.training().evaluate_every_steps()); }, WithoutHeldOut},
    {"training.evaluate_samples",
     [](const RunConfig& given) {
       return given.training().has_evaluate_samples() ? absl::StrCat(given.training().evaluate_samples()) : "";
     },
     WithoutHeldOut},
    {"training.on_nan_limit",
     [](const RunConfig& given) {
       return given.training().has_on_nan_limit() ? absl::StrCat(given.training().on_nan_limit()) : "";
     },
     [](const RunConfig& filled) {
       return filled.training().on_nan() == TrainingConfig::SKIP ? "" : std::string("without on_nan SKIP");
     }},
    {"training.optimizer.decay_share",
     [](const RunConfig& given) {
       const OptimizerConfig& optimizer = given.training().optimizer();
       return optimizer.has_decay_share() ? absl::StrCat(optimizer.decay_share()) : "";
     },
     [](const RunConfig& filled) {
       const bool used = filled.training().optimizer().schedule() == OptimizerConfig::WSD;
       return used ? "" : "with schedule " + ScheduleText(filled) + ", only with WSD";
     }},
    {"training.optimizer.final_share",
     [](const RunConfig& given) {
       const OptimizerConfig& optimizer = given.training().optimizer();
       return optimizer.has_final_share() ? absl::StrCat(optimizer.final_share()) : "";
     },
     [](const RunConfig& filled) {
       const bool used = filled.training().optimizer().schedule() != OptimizerConfig::CONSTANT;
       return used ? "" : "with schedule " + ScheduleText(filled);
     }},
    {"parallel.sequence_parallel",
     [](const RunConfig& given) { return given.parallel().sequence_parallel() ? std::string("true") : ""; },
     [](const RunConfig& filled) { return filled.parallel().tensor() == 1 ? std::string("with parallel.tensor 1") : ""; }},
    {"runtime.bf16_products",
     [](const RunConfig& given) {
       const RuntimeConfig::Bf16Products products = given.runtime().bf16_products();
       return products == RuntimeConfig::BF16_PRODUCTS_UNSET ? "" : RuntimeConfig::Bf16Products_Name(products);
     },
     [](const RunConfig& filled) {
       if (!OnGpus(filled).empty()) return OnGpus(filled);
       return filled.training().precision() == TrainingConfig::FP32 ? std::string("with training.precision FP32") : "";
     }},
    {"runtime.sums",
     [](const RunConfig& given) {
       const RuntimeConfig::Sums sums = given.runtime().sums();
       return sums == RuntimeConfig::SUMS_UNSET ? "" : RuntimeConfig::Sums_Name(sums);
     },
     [](const RunConfig& filled) {
       return RanksOfMesh(filled.parallel()) == 1 ? std::string("on one rank") : "";
     }},
    {"runtime.threads", [](const RunConfig& given) { return IfNot(0, given.runtime().threads()); }, OnGpus},
};

}  // namespace

std::vector<std::string> IdleOptions(const RunConfig& given, const RunConfig& filled) {
  std::vector<std::string> lines;
  for (const Row& row : kRows) {
    const std::string value = row.value(given), why = row.why(filled);
    if (!value.empty() && !why.empty()) lines.push_back(absl::StrCat(row.path, ": ", value, " has no effect ", why));
  }
  return lines;
}

}  // namespace trefoil
