#include "training/log/metrics.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <ctime>
#include <limits>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace trefoil {
namespace {

constexpr char kFirstKey[] = "{\"step\":";
constexpr char kName[] = "metrics.jsonl";

// The shortest digits that read back to the same double.
std::string Number(double value) {
  if (!std::isfinite(value)) return "null";
  char digits[32];
  return std::string(digits, std::to_chars(digits, digits + sizeof(digits), value).ptr);
}

std::string Text(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return quoted + '"';
}

// "2026-11-26T18:34:21.123Z"
std::string TimeText(double seconds_since_1970) {
  const auto milliseconds = static_cast<int64_t>(std::llround(seconds_since_1970 * 1000));
  const std::time_t seconds = milliseconds / 1000;
  std::tm utc = {};
  char text[32] = "";
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &utc));
  return absl::StrFormat("%s.%03dZ", text, milliseconds % 1000);
}

// The step of a complete line, or -1.
int64_t StepOf(std::string_view line) {
  int64_t step = -1;
  const size_t begin = sizeof(kFirstKey) - 1;
  if (!line.starts_with(kFirstKey) || line.back() != '}') return -1;
  std::from_chars(line.data() + begin, line.data() + line.size(), step);
  return step;
}

// Bytes of the file up to the end of the last complete line of a step from 1 to `last`, before any later step.
absl::StatusOr<int64_t> BytesUpTo(const ReadableFile& file, int64_t last) {
  constexpr int64_t kBlock = 1 << 20;
  int64_t kept = 0, at = 0;  // of `line`'s first byte
  std::string line, block;
  for (int64_t offset = 0; offset < file.size(); offset += kBlock) {
    block.resize(static_cast<size_t>(std::min(kBlock, file.size() - offset)));
    TREFOIL_RETURN_IF_ERROR(file.Read(offset, std::as_writable_bytes(std::span(block))));
    for (std::string_view rest = block; !rest.empty();) {
      const size_t end = rest.find('\n');
      line += rest.substr(0, end);
      if (end == std::string_view::npos) break;
      rest.remove_prefix(end + 1);
      const int64_t step = StepOf(line);
      if (step > last) return kept;
      at += static_cast<int64_t>(line.size()) + 1;
      if (step >= 1) kept = at;
      line.clear();
    }
  }
  return kept;
}

// Moves FOLDER/metrics.jsonl to the first free of metrics.1.jsonl, metrics.2.jsonl ..., cut off after `bytes` bytes.
absl::Status KeepOld(FileSystem& fs, const std::string& folder, int64_t bytes, std::ostream& say) {
  const std::string path = folder + "/" + kName;
  TREFOIL_RETURN_IF_ERROR(fs.Extend(path, bytes).status());
  for (int number = 1;; ++number) {
    const std::string name = absl::StrCat("metrics.", number, ".jsonl");
    const absl::Status moved = fs.RenameIfFree(path, folder + "/" + name);
    if (absl::IsAlreadyExists(moved)) continue;
    if (moved.ok()) {
      say << "Note: " << path << " is of a start that left no checkpoint; it is kept as " << name << ".\n";
    }
    return moved;
  }
}

// The last of a kind that was completed; null if none was.
const SaveFigures* LastSave(const StepMetrics& metrics, bool in_memory) {
  const auto last = std::find_if(metrics.saves.rbegin(), metrics.saves.rend(),
                                 [&](const SaveFigures& save) { return save.in_memory == in_memory; });
  return last == metrics.saves.rend() ? nullptr : &*last;
}

// Of one step: numbers that people draw curves of.
std::vector<Scalar> Curves(const StepMetrics& metrics) {
  std::vector<Scalar> scalars = {{"loss", metrics.loss},
                                 {"gradient_norm", metrics.gradient_norm},
                                 {"learning_rate", metrics.learning_rate},
                                 {"total_samples", static_cast<double>(metrics.total_samples)},
                                 {"total_tokens", static_cast<double>(metrics.total_tokens)},
                                 {"epoch", metrics.epoch},
                                 {"seconds", metrics.seconds},
                                 {"communication_seconds", metrics.communication_seconds},
                                 {"data_seconds", metrics.ranks.data_seconds},
                                 {"tokens_per_second", metrics.TokensPerSecond()},
                                 {"model_flops_per_second", metrics.FlopsPerSecond()}};
  if (metrics.peak.best() > 0) scalars.push_back({"mfu", metrics.Mfu()});
  if (metrics.peak.measured > 0) scalars.push_back({"measured_mfu", metrics.MeasuredMfu()});
  scalars.push_back({"slowest_rank", static_cast<double>(metrics.ranks.slowest)});
  scalars.push_back({"slowest_work_seconds", metrics.ranks.slowest_work_seconds});
  scalars.push_back({"median_work_seconds", metrics.ranks.median_work_seconds});
  scalars.push_back({"reserved_bytes", metrics.ranks.reserved_bytes});
  scalars.push_back({"resident_bytes", metrics.ranks.resident_bytes});
  if (metrics.held_out_loss) scalars.push_back({"held_out_loss", *metrics.held_out_loss});
  if (metrics.held_out_accuracy) scalars.push_back({"held_out_accuracy", *metrics.held_out_accuracy});
  for (const bool in_memory : {false, true}) {
    const SaveFigures* const save = LastSave(metrics, in_memory);
    if (save == nullptr) continue;
    scalars.push_back({in_memory ? "snapshot_write_seconds" : "save_write_seconds", save->write_seconds});
    scalars.push_back({in_memory ? "snapshot_stall_seconds" : "save_stall_seconds", save->stall_seconds});
  }
  return scalars;
}

}  // namespace

std::string MetricsJson(const StepMetrics& metrics) {
  std::string json = absl::StrCat(kFirstKey, metrics.step, ",\"time\":\"", TimeText(metrics.time), "\"");
  if (metrics.skipped) json += ",\"skipped\":true";
  absl::StrAppend(&json, ",\"tokens\":", metrics.tokens);
  for (const Scalar& scalar : Curves(metrics)) {
    if (scalar.tag == "save_write_seconds") absl::StrAppend(&json, ",\"saved_step\":", LastSave(metrics, false)->step);
    if (scalar.tag == "snapshot_write_seconds") absl::StrAppend(&json, ",\"snapshot_step\":", LastSave(metrics, true)->step);
    absl::StrAppend(&json, ",\"", scalar.tag, "\":", Number(scalar.value));
    if (scalar.tag == "slowest_rank") absl::StrAppend(&json, ",\"slowest_host\":", Text(metrics.ranks.slowest_host));
    if (scalar.tag == "mfu") absl::StrAppend(&json, ",\"mfu_of\":", Text(metrics.peak.best_name()));
  }
  return json + "}";
}

MetricsWriter::MetricsWriter(FileSystem& fs, const std::string& folder, std::ostream& say)
    : say_(say), lines_(fs, folder + "/" + kName), tensorboard_(fs, folder) {}

absl::StatusOr<std::unique_ptr<MetricsWriter>> MetricsWriter::Open(FileSystem& fs, const std::string& folder,
                                                                   int64_t resumed_step, std::ostream& say) {
  std::unique_ptr<MetricsWriter> writer(new MetricsWriter(fs, folder, say));
  int64_t kept = 0;
  if (const std::string& path = writer->lines_.path(); fs.Exists(path)) {
    const bool is_new = resumed_step == 0;
    TREFOIL_ASSIGN_OR_RETURN(const std::unique_ptr<ReadableFile> old, fs.Open(path));
    TREFOIL_ASSIGN_OR_RETURN(kept, BytesUpTo(*old, is_new ? std::numeric_limits<int64_t>::max() : resumed_step));
    if (is_new && kept > 0) TREFOIL_RETURN_IF_ERROR(KeepOld(fs, folder, std::exchange(kept, 0), say));
  }
  TREFOIL_RETURN_IF_ERROR(writer->lines_.Open(kept));
  TREFOIL_RETURN_IF_ERROR(writer->tensorboard_.Open(resumed_step));
  TREFOIL_RETURN_IF_ERROR(fs.FlushFolder(folder));
  return writer;
}

void MetricsWriter::Write(const StepMetrics& metrics) {
  absl::Status status = lines_.Add(MetricsJson(metrics) + "\n");
  status.Update(tensorboard_.Write(metrics.time, metrics.step, Curves(metrics)));
  if (!status.ok()) return CountLost(metrics.step, status);
  if (lost_ == 0) return;
  say_ << "Metrics are written again, from step " << metrics.step << " on; those of "
       << (lost_ == 1 ? "step " : absl::StrCat("steps ", first_lost_, " to ")) << metrics.step - 1 << " are lost."
       << std::endl;
  lost_ = 0;
}

void MetricsWriter::Flush() {
  absl::Status status = lines_.Flush();
  status.Update(tensorboard_.Flush());
  if (!status.ok()) say_ << "WARNING: metrics: " << status.message() << ". Training goes on." << std::endl;
}

void MetricsWriter::CountLost(int64_t step, const absl::Status& status) {
  if (lost_++ == 0) first_lost_ = step;
  if (lost_ != 1 && lost_ != 10 && lost_ != 100 && lost_ % 1000 != 0) return;
  say_ << "WARNING: the metrics of step " << step << " could not be written: " << status.message()
       << ". Training goes on";
  if (lost_ > 1) say_ << "; the metrics of " << lost_ << " steps are lost so far";
  say_ << "." << std::endl;
}

}  // namespace trefoil
