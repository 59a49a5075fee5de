#include "training/metrics.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

namespace trefoil {
namespace {

constexpr char kFirstKey[] = "{\"step\":";

absl::Status Failed(const std::string& path, const char* what) {
  return absl::InternalError(absl::StrCat(path, ": cannot ", what, ": ", std::strerror(errno)));
}

// The shortest digits that read back to the same double.
std::string Number(double value) {
  if (!std::isfinite(value)) return "null";
  char digits[32];
  return std::string(digits, std::to_chars(digits, digits + sizeof(digits), value).ptr);
}

// The step of a complete line, or -1.
int64_t StepOf(const std::string& line) {
  int64_t step = -1;
  const size_t begin = sizeof(kFirstKey) - 1;
  if (!absl::StartsWith(line, kFirstKey) || line.back() != '}') return -1;
  std::from_chars(line.data() + begin, line.data() + line.size(), step);
  return step;
}

// Leaves the complete lines of steps 1 to `last`. The old file stays until the new one is whole.
absl::Status Truncate(const std::string& path, int64_t last) {
  std::ifstream old(path);
  if (!old) return absl::OkStatus();
  const std::string temporary = path + ".partial";
  std::ofstream kept(temporary);
  for (std::string line; std::getline(old, line);) {
    const int64_t step = StepOf(line);
    if (step >= 1 && step <= last) kept << line << '\n';
  }
  kept.close();
  if (!kept) return Failed(temporary, "write");
  std::error_code error;
  std::filesystem::rename(temporary, path, error);
  return error ? absl::InternalError(absl::StrCat(path, ": cannot replace: ", error.message())) : absl::OkStatus();
}

std::string Scaled(double flops) {
  const char* prefixes[] = {"", "k", "M", "G", "T", "P", "E"};
  size_t i = 0;
  for (; flops >= 1000 && i + 1 < std::size(prefixes); ++i) flops /= 1000;
  return absl::StrFormat("%.*f %sFLOP/s", flops >= 100 ? 0 : flops >= 10 ? 1 : 2, flops, prefixes[i]);
}

std::string Clock(double seconds) {
  const int64_t total = static_cast<int64_t>(seconds + 0.5);
  return absl::StrFormat("%d:%02d:%02d", total / 3600, total / 60 % 60, total % 60);
}

}  // namespace

std::string MetricsJson(const StepMetrics& metrics) {
  std::string json = absl::StrCat(kFirstKey, metrics.step);
  const auto add = [&](const char* name, const std::string& value) {
    absl::StrAppend(&json, ",\"", name, "\":", value);
  };
  add("loss", Number(metrics.loss));
  add("gradient_norm", Number(metrics.gradient_norm));
  add("learning_rate", Number(metrics.learning_rate));
  if (metrics.skipped) add("skipped", "true");
  add("tokens", absl::StrCat(metrics.tokens));
  add("seconds", Number(metrics.seconds));
  add("tokens_per_second", Number(metrics.TokensPerSecond()));
  add("model_flops_per_second", Number(metrics.FlopsPerSecond()));
  if (metrics.peak_flops > 0) add("utilisation", Number(metrics.Utilisation()));
  if (metrics.held_out_loss) add("held_out_loss", Number(*metrics.held_out_loss));
  return json + "}";
}

absl::StatusOr<std::unique_ptr<MetricsWriter>> MetricsWriter::Open(const std::string& folder, int64_t resumed_step) {
  std::unique_ptr<MetricsWriter> writer(new MetricsWriter);
  writer->path_ = folder + "/metrics.jsonl";
  TREFOIL_RETURN_IF_ERROR(Truncate(writer->path_, resumed_step));
  writer->lines_.open(writer->path_, std::ios::app);
  if (!writer->lines_) return Failed(writer->path_, "open for writing");
  TREFOIL_ASSIGN_OR_RETURN(writer->tensorboard_, TensorBoardWriter::Open(folder, resumed_step));
  return writer;
}

absl::Status MetricsWriter::Write(const StepMetrics& metrics) {
  lines_ << MetricsJson(metrics) << '\n' << std::flush;
  if (!lines_) return Failed(path_, "write");
  std::vector<Scalar> scalars = {{"loss", metrics.loss},
                                 {"gradient_norm", metrics.gradient_norm},
                                 {"learning_rate", metrics.learning_rate},
                                 {"tokens_per_second", metrics.TokensPerSecond()}};
  if (metrics.peak_flops > 0) scalars.push_back({"utilisation", metrics.Utilisation()});
  if (metrics.held_out_loss) scalars.push_back({"held_out_loss", *metrics.held_out_loss});
  return tensorboard_->Write(metrics.step, scalars);
}

std::string ProgressMeter::Line(const StepMetrics& metrics) {
  seconds_per_step_ = seconds_per_step_ == 0 ? metrics.seconds : 0.9 * seconds_per_step_ + 0.1 * metrics.seconds;
  const std::string total = absl::StrCat(total_steps_);
  std::string line = absl::StrFormat("step %*d/%s  loss %.4f  norm %.3f  lr %.2e  %.0f tokens/s  %s",
                                     static_cast<int>(total.size()), metrics.step, total, metrics.loss,
                                     metrics.gradient_norm, metrics.learning_rate, metrics.TokensPerSecond(),
                                     Scaled(metrics.FlopsPerSecond()));
  if (metrics.peak_flops > 0) absl::StrAppendFormat(&line, "  MFU %.1f%%", 100 * metrics.Utilisation());
  const double left = static_cast<double>(std::max<int64_t>(0, total_steps_ - metrics.step));
  absl::StrAppend(&line, "  ETA ", Clock(left * seconds_per_step_));
  if (metrics.held_out_loss) absl::StrAppendFormat(&line, "  held-out %.4f", *metrics.held_out_loss);
  return line;
}

}  // namespace trefoil
