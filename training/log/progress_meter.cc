#include "training/log/progress_meter.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>

#include "runtime/number_text.h"

namespace trefoil {
namespace {

// Of the step, from which on waiting is shown.
constexpr double kNotable = 0.1;

std::string Clock(double seconds) {
  const int64_t total = static_cast<int64_t>(seconds + 0.5);
  return absl::StrFormat("%d:%02d:%02d", total / 3600, total / 60 % 60, total % 60);
}

std::string MfuText(const StepMetrics& metrics) {
  const PeakFlops& peak = metrics.peak;
  if (peak.best() == 0) return "";
  std::string text = absl::StrFormat("  MFU %.1f%%", 100 * metrics.Mfu());
  const bool both = peak.vendor > 0 && peak.measured > 0;
  if (both) absl::StrAppendFormat(&text, " (%.1f%% of measured)", 100 * metrics.MeasuredMfu());
  if (metrics.Mfu() > 1) {
    text += peak.vendor > 0 ? " (over 100%: above the data sheet)" : " (over 100%: peak measured under load)";
  }
  return text;
}

// Times of about a moment, a minute, an hour, a day.
std::string About(double seconds) {
  const auto text = [](double count, const char* unit) {
    const auto rounded = static_cast<int64_t>(count + 0.5);
    return absl::StrCat("about ", rounded, " ", unit, rounded == 1 ? "" : "s");
  };
  if (seconds < 90) return text(seconds, "second");
  if (seconds < 90 * 60) return text(seconds / 60, "minute");
  if (seconds < 48 * 3600) return text(seconds / 3600, "hour");
  return text(seconds / 86400, "day");
}

// Of the steps after `step`, those that something is done after: each `every`th and the last.
int64_t Occasions(int64_t step, int64_t steps, int64_t every) {
  if (step >= steps) return 0;
  return 1 + (every > 0 ? (steps - 1) / every - step / every : 0);
}

}  // namespace

void ProgressMeter::Stepped(int64_t step, double seconds) {
  step_ = step;
  // The first takes longer than others: it warms up. It counts until there is another.
  seconds_per_step_ = ++steps_seen_ <= 2 ? seconds : 0.9 * seconds_per_step_ + 0.1 * seconds;
}

double ProgressMeter::SecondsLeft() const {
  const auto steps = static_cast<double>(std::max<int64_t>(0, length_.steps - step_));
  const int64_t evaluations = length_.evaluates ? Occasions(step_, length_.steps, length_.evaluate_every) : 0;
  const int64_t saves = Occasions(step_ - 1, length_.steps, length_.save_every);
  return steps * seconds_per_step_ + static_cast<double>(evaluations) * evaluations_.value() +
         static_cast<double>(saves) * saves_.value();
}

std::string ProgressMeter::Length() const {
  return absl::StrFormat("%s: %d steps of %.3g s", About(SecondsLeft()), length_.steps - step_, seconds_per_step_);
}

std::string ProgressMeter::Line(const StepMetrics& metrics) const {
  const std::string total = absl::StrCat(length_.steps);
  std::string line = absl::StrFormat("step %*d/%s  ", static_cast<int>(total.size()), metrics.step, total);
  if (metrics.skipped) {
    line += "skipped (not finite)";
  } else {
    absl::StrAppendFormat(&line, "loss %.4f  norm %.3f", metrics.loss, metrics.gradient_norm);
  }
  const std::string speed = length_.images ? absl::StrFormat("%.1f images/s", metrics.SamplesPerSecond())
                                           : absl::StrFormat("%.0f tokens/s", metrics.TokensPerSecond());
  absl::StrAppendFormat(&line, "  lr %.2e  %s  %s%s", metrics.learning_rate, speed,
                        FlopsText(metrics.FlopsPerSecond()) + "/s", MfuText(metrics));
  const auto share = [&](const char* what, double seconds) {
    if (seconds >= kNotable * metrics.seconds) {
      absl::StrAppendFormat(&line, "  %s %.0f%%", what, 100 * seconds / metrics.seconds);
    }
  };
  share("data", metrics.ranks.data_seconds);
  share("communication", metrics.communication_seconds);
  absl::StrAppend(&line, "  ETA ", Clock(SecondsLeft()));
  if (metrics.held_out_loss) absl::StrAppendFormat(&line, "  held-out %.4f", *metrics.held_out_loss);
  if (metrics.held_out_accuracy) absl::StrAppendFormat(&line, " (%.1f%%)", 100 * *metrics.held_out_accuracy);
  return line;
}

}  // namespace trefoil
