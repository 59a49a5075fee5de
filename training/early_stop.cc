#include "training/early_stop.h"

#include <absl/strings/str_cat.h>
#include <glog/logging.h>

namespace trefoil {

bool NoteEvaluation(const EarlyStopConfig& config, const Evaluation& evaluation, TrainerState* state) {
  if (config.evaluations() == 0) return false;
  const bool by_accuracy = config.by() == EarlyStopConfig::ACCURACY;
  CHECK(!by_accuracy || evaluation.accuracy.has_value());
  const double value = by_accuracy ? *evaluation.accuracy : evaluation.loss;
  EarlyStopState& best = *state->mutable_early_stop();
  const bool first = best.step() == 0 || best.by() != config.by();
  if (!first && !(by_accuracy ? value > best.value() : value < best.value())) {
    best.set_evaluations_since(best.evaluations_since() + 1);
    return false;
  }
  best.set_by(config.by());
  best.set_step(state->step());
  best.set_value(value);
  best.set_evaluations_since(0);
  return true;
}

bool StopsEarly(const EarlyStopConfig& config, const TrainerState& state) {
  return config.evaluations() > 0 && state.early_stop().by() == config.by() &&
         state.early_stop().evaluations_since() >= config.evaluations();
}

std::string EarlyStopText(const TrainerState& state) {
  const EarlyStopState& best = state.early_stop();
  const bool one = best.evaluations_since() == 1;
  return absl::StrCat("the held-out ", best.by() == EarlyStopConfig::ACCURACY ? "accuracy" : "loss",
                      " was best at step ", best.step(), " (", best.value(), "), and the ",
                      one ? "" : absl::StrCat(best.evaluations_since(), " "),
                      one ? "evaluation since was" : "evaluations since were", " not better");
}

}  // namespace trefoil
