#include "training/optimizer/learning_rate.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace trefoil {

double LearningRate(const OptimizerConfig& config, int64_t total_steps, int64_t step) {
  CHECK_GE(total_steps, 1);
  CHECK_GE(step, 1);
  const double peak = config.learning_rate();
  const int64_t warmup = config.warmup_steps();
  if (step <= warmup && step <= total_steps) return peak * static_cast<double>(step) / static_cast<double>(warmup);
  if (config.schedule() == OptimizerConfig::CONSTANT) return peak;
  if (config.schedule() == OptimizerConfig::INVERSE_SQRT) {
    return peak * std::sqrt(static_cast<double>(warmup) / static_cast<double>(step));
  }

  const double final_rate = peak * config.final_share();
  if (step >= total_steps) return final_rate;
  int64_t decay_start = warmup;
  if (config.schedule() == OptimizerConfig::WSD) {
    const int64_t decay = std::llround(static_cast<double>(config.decay_share()) * static_cast<double>(total_steps));
    decay_start = std::max(warmup, total_steps - decay);
    if (step <= decay_start) return peak;
  }
  // In (0, 1): warmup < decay_start < step < total_steps here, or warmup = decay_start.
  const double progress = static_cast<double>(step - decay_start) / static_cast<double>(total_steps - decay_start);
  switch (config.schedule()) {
    case OptimizerConfig::COSINE:
      return final_rate + (peak - final_rate) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
    case OptimizerConfig::LINEAR:
    case OptimizerConfig::WSD:
      return peak + (final_rate - peak) * progress;
    default:
      LOG(FATAL) << "optimizer.schedule is not filled in: " << config.schedule();
  }
}

}  // namespace trefoil
