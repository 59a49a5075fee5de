#include "launcher/checkpoints/list.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <absl/strings/strip.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <optional>
#include <vector>

#include "checkpoint/reader.h"
#include "checkpoint/upkeep/verify.h"
#include "launcher/checkpoints/find.h"
#include "model/model_text.h"
#include "parallel/axes.h"
#include "runtime/files/folder_lock.h"
#include "runtime/number_text.h"
#include "training/saving/resume.h"

namespace trefoil {
namespace {

using Row = std::array<std::string, 6>;

std::string AgeText(double seconds) {
  if (seconds < 0) return "later than this host's clock";
  if (seconds < 100) return absl::StrFormat("%.0f s", seconds);
  if (seconds < 100 * 60) return absl::StrFormat("%.0f min", seconds / 60);
  if (seconds < 48 * 3600) return absl::StrFormat("%.0f h", seconds / 3600);
  return absl::StrFormat("%.0f days", seconds / 86400);
}

std::string AgeOf(FileSystem& fs, const std::string& folder) {
  const std::string manifest = folder + "/manifest.json";
  const auto then = fs.ModifiedSeconds(fs.Exists(manifest) ? manifest : folder);
  return then.ok() ? AgeText(static_cast<double>(std::time(nullptr)) - std::floor(*then)) : "-";
}

std::string ModelText(FileSystem& fs, const std::string& checkpoint) {
  const auto reader = CheckpointReader::Open(fs, checkpoint);
  if (!reader.ok()) return "";
  ModelConfig model;
  return google::protobuf::TextFormat::ParseFromString(reader->model(), &model) ? ModelInWords(model) : reader->model();
}

KeepPolicy PolicyOf(const RunConfig& config, int64_t best) {
  const CheckpointConfig& checkpoint = config.training().checkpoint();
  return {.last = checkpoint.keep_last(),
          .every = checkpoint.keep_every(),
          .best = config.training().early_stop().evaluations() > 0 ? best : 0};
}

std::string KeepText(const KeepPolicy& keep) {
  if (keep.last == 0) return "all";
  return absl::StrCat("the last ", keep.last, keep.every > 0 ? absl::StrCat("; each ", keep.every, "th step's") : "",
                      keep.best > 0 ? "; the best held-out" : "");
}

class Listing {
 public:
  Listing(FileSystem& fs, const FoundCheckpoints& found)
      : fs_(fs), found_(found), config_(ConfigOfRun(fs, found.run)), best_(BestHeldOut(fs, found)) {
    if (config_) keep_ = PolicyOf(*config_, best_);
    if (!keep_ || found.one) return;
    for (const CheckpointFolder& folder : SurplusCheckpoints(found.folders, found.NewestStep(), *keep_)) {
      surplus_.push_back(folder.path);
    }
  }

  void Print(std::ostream& out) const {
    Head(out);
    if (found_.folders.empty()) {
      out << "checkpoints none\n";
      return;
    }
    std::vector<Row> rows = {{"step", "what", "size", "files", "age", "note"}};
    for (const CheckpointFolder& folder : found_.folders) rows.push_back(RowOf(folder));
    std::array<size_t, 5> widths = {};
    for (const Row& row : rows) {
      for (size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    out << "\n";
    for (const Row& row : rows) {
      std::string line = absl::StrFormat("  %*s", static_cast<int>(widths[0]), row[0]);
      for (size_t i = 1; i < widths.size(); ++i) {
        absl::StrAppendFormat(&line, "  %-*s", static_cast<int>(widths[i]), row[i]);
      }
      absl::StrAppend(&line, "  ", row[5]);
      out << absl::StripTrailingAsciiWhitespace(line) << "\n";
    }
  }

 private:
  void Head(std::ostream& out) const {
    const auto line = [&](const char* label, const std::string& text) {
      if (!text.empty()) out << absl::StrFormat("%-11s %s\n", label, text);
    };
    line("run", found_.run);
    if (found_.run.empty()) line("folder", found_.folder);
    std::string model;
    for (const std::string& path : found_.Complete()) {
      if (model = ModelText(fs_, path); !model.empty()) break;
    }
    line("model", model);
    if (config_) {
      line("layout", MeshText(config_->parallel()) + " in its config.pbtxt");
      line("keep", KeepText(*keep_));
    }
    if (found_.run.empty()) return;
    const auto owner = FolderOwner(fs_, found_.run);
    line("in use", owner.ok() ? "by " + *owner : absl::IsNotFound(owner.status()) ? "by nobody" : "not known");
  }

  Row RowOf(const CheckpointFolder& folder) const {
    const auto bytes = BytesOfFiles(fs_, folder.path);
    Row row = {absl::StrCat(folder.step), "", bytes.ok() ? BytesText(*bytes) : "-", "-", AgeOf(fs_, folder.path), ""};
    std::string &what = row[1], &note = row[5];
    switch (folder.kind) {
      case CheckpointFolder::kPartial: {
        what = "partial";
        const absl::string_view name = absl::StripSuffix(folder.path, ".partial");
        const auto owned = OwnedBy(fs_, found_.run, std::string(name.substr(name.rfind('.') + 1)));
        note = owned.ok() && *owned ? "is being written" : "left by a save that died; never read";
        break;
      }
      case CheckpointFolder::kReplaced:
        what = "replaced";
        note = "another of this step has taken its place; the next save removes it";
        break;
      case CheckpointFolder::kDeleted:
        what = "deleted";
        note = "half removed; never read";
        break;
      case CheckpointFolder::kDamaged:
        what = "set aside";
        note = "was found to be damaged; never read, never removed";
        break;
      case CheckpointFolder::kComplete:
        Complete(folder, &row);
    }
    return row;
  }

  void Complete(const CheckpointFolder& folder, Row* row) const {
    const auto files = LookForFiles(fs_, folder.path);
    std::string &what = (*row)[1], &note = (*row)[5];
    if (!files.ok()) {
      what = "damaged";
      note = std::string(files.status().message());
      return;
    }
    (*row)[3] = files->there == files->ranks ? absl::StrCat(files->ranks)
                                             : absl::StrCat(files->there, " of ", files->ranks);
    what = files->wrong.empty() ? "complete" : "incomplete";
    note = files->wrong.empty() ? WhyKept(folder) : files->wrong;
  }

  std::string WhyKept(const CheckpointFolder& folder) const {
    std::vector<std::string> reasons;
    if (!found_.one && folder.step == found_.NewestStep()) reasons.push_back("newest");
    const bool goes = std::find(surplus_.begin(), surplus_.end(), folder.path) != surplus_.end();
    if (keep_ && keep_->ForEver(folder.step)) reasons.push_back(absl::StrCat("each ", keep_->every, "th"));
    const bool otherwise = !reasons.empty() || (keep_ && keep_->best == folder.step);
    if (keep_ && keep_->last > 0 && !found_.one && !goes && !otherwise) {
      reasons.push_back(absl::StrCat("last ", keep_->last));
    }
    if (goes) reasons.push_back("the next save removes it");
    if (folder.step == best_) reasons.push_back("best held-out");
    return absl::StrJoin(reasons, "; ");
  }

  FileSystem& fs_;
  const FoundCheckpoints& found_;
  const std::optional<RunConfig> config_;
  const int64_t best_;
  std::optional<KeepPolicy> keep_;  // of the config
  std::vector<std::string> surplus_;
};

}  // namespace

absl::Status ListNamed(FileSystem& fs, const std::string& path, std::ostream& out) {
  TREFOIL_ASSIGN_OR_RETURN(const FoundCheckpoints found, FindFolders(fs, path));
  Listing(fs, found).Print(out);
  return absl::OkStatus();
}

}  // namespace trefoil
