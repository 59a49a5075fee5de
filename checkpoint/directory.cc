#include "checkpoint/directory.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/strip.h>
#include <glog/logging.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "checkpoint/manifest.h"

namespace trefoil {
namespace {

constexpr char kPartial[] = ".partial", kReplaced[] = ".replaced", kDeleted[] = ".deleted", kDamaged[] = ".damaged";

struct Entry {
  int64_t step;
  std::string suffix;  // "", one of the above; of kDamaged with a number behind it, of kPartial whoever's it is
};

std::optional<Entry> ParseName(absl::string_view name) {
  const size_t digits_end = std::min(name.find('.'), name.size());
  absl::string_view digits = name.substr(0, digits_end), rest = name.substr(digits_end);
  Entry entry;
  if (!absl::ConsumePrefix(&digits, "step-") || !absl::SimpleAtoi(digits, &entry.step) || entry.step < 0) {
    return std::nullopt;
  }
  if (name.substr(0, digits_end) != absl::StrFormat("step-%08d", entry.step)) return std::nullopt;
  if (absl::EndsWith(rest, kPartial)) {
    entry.suffix = kPartial;
  } else if (absl::StartsWith(rest, kDamaged)) {
    entry.suffix = kDamaged;
  } else if (rest.empty() || rest == kReplaced || rest == kDeleted) {
    entry.suffix = std::string(rest);
  } else {
    return std::nullopt;
  }
  return entry;
}

// Folders of complete checkpoints by step.
absl::StatusOr<std::map<int64_t, std::string>> ListComplete(FileSystem& fs, const std::string& folder,
                                                            std::vector<std::string>* ignored) {
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(folder));
  std::map<int64_t, std::string> complete;
  for (const std::string& name : names) {  // sorted: "step-X" comes before "step-X.replaced"
    const std::optional<Entry> entry = ParseName(name);
    if (!entry) continue;
    const bool counts = entry->suffix.empty() || entry->suffix == kReplaced;
    if (counts && complete.emplace(entry->step, folder + "/" + name).second) continue;
    if (ignored != nullptr) ignored->push_back(name);
  }
  return complete;
}

void WarnIfError(const absl::Status& status) {
  if (!status.ok()) LOG(WARNING) << "cannot tidy up checkpoints: " << status.message();
}

// Removes a complete checkpoint in a way that can be interrupted.
absl::Status Discard(FileSystem& fs, const std::string& path) {
  const std::string deleted = std::string(absl::StripSuffix(path, kReplaced)) + kDeleted;
  TREFOIL_RETURN_IF_ERROR(fs.Remove(deleted));
  TREFOIL_RETURN_IF_ERROR(RenameDurably(fs, path, deleted));
  return fs.Remove(deleted);
}

}  // namespace

std::string CheckpointPath(const std::string& run_checkpoints_folder, int64_t step) {
  return absl::StrFormat("%s/step-%08d", run_checkpoints_folder, step);
}

int64_t StepOf(const std::string& path) {
  const std::optional<Entry> entry = ParseName(path.substr(path.rfind('/') + 1));
  CHECK(entry.has_value()) << path;
  return entry->step;
}

std::string PartialCheckpointPath(const std::string& run_checkpoints_folder, int64_t step, const std::string& owner) {
  return CheckpointPath(run_checkpoints_folder, step) + "." + owner + kPartial;
}

absl::StatusOr<std::vector<std::string>> CompleteCheckpoints(FileSystem& fs, const std::string& run_checkpoints_folder,
                                                             std::vector<std::string>* ignored) {
  const auto complete = ListComplete(fs, run_checkpoints_folder, ignored);
  if (absl::IsNotFound(complete.status())) return std::vector<std::string>();
  TREFOIL_RETURN_IF_ERROR(complete.status());
  std::vector<std::string> newest_first;
  for (auto it = complete->rbegin(); it != complete->rend(); ++it) newest_first.push_back(it->second);
  return newest_first;
}

absl::StatusOr<std::string> LatestCheckpoint(FileSystem& fs, const std::string& run_checkpoints_folder,
                                             std::vector<std::string>* ignored) {
  TREFOIL_ASSIGN_OR_RETURN(const auto complete, CompleteCheckpoints(fs, run_checkpoints_folder, ignored));
  if (complete.empty()) {
    return absl::NotFoundError(run_checkpoints_folder + ": holds no complete checkpoint (a folder step-NNNNNNNN)");
  }
  return complete.front();
}

absl::StatusOr<CheckpointPlace> FindCheckpoints(FileSystem& fs, std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (!fs.Exists(path)) return absl::NotFoundError(path + " does not exist");
  if (fs.Exists(path + "/" + kManifestFile)) return CheckpointPlace{.checkpoints = {path}, .run = path + "/../.."};
  const bool is_run = fs.Exists(path + "/checkpoints");
  TREFOIL_ASSIGN_OR_RETURN(std::vector<std::string> checkpoints,
                           CompleteCheckpoints(fs, is_run ? path + "/checkpoints" : path));
  if (checkpoints.empty()) {
    return absl::NotFoundError(path + " has no complete checkpoint; give a run's folder, its folder checkpoints, or " +
                               "one of those in there");
  }
  return CheckpointPlace{.checkpoints = std::move(checkpoints), .run = is_run ? path : path + "/.."};
}

absl::StatusOr<std::string> SetAsideDamaged(FileSystem& fs, const std::string& path) {
  const std::string aside = std::string(absl::StripSuffix(path, kReplaced)) + kDamaged;
  std::string free = aside;
  for (int number = 2; fs.Exists(free); ++number) free = absl::StrCat(aside, "-", number);
  TREFOIL_RETURN_IF_ERROR(RenameDurably(fs, path, free));
  return free;
}

absl::Status BeginCheckpoint(FileSystem& fs, const std::string& run_checkpoints_folder, int64_t step,
                             const std::string& owner) {
  TREFOIL_RETURN_IF_ERROR(MakeFolderDurably(fs, run_checkpoints_folder));
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(run_checkpoints_folder));
  for (const std::string& name : names) {
    const std::optional<Entry> entry = ParseName(name);
    if (!entry) continue;
    const std::string path = run_checkpoints_folder + "/" + name;
    const std::string plain = CheckpointPath(run_checkpoints_folder, entry->step);
    if (entry->suffix == kReplaced && !fs.Exists(plain)) {
      TREFOIL_RETURN_IF_ERROR(RenameDurably(fs, path, plain));  // the save that was to take its place died
    } else if (entry->suffix == kReplaced) {
      WarnIfError(Discard(fs, path));
    } else if (entry->suffix == kPartial || entry->suffix == kDeleted) {
      WarnIfError(fs.Remove(path));
    }
  }
  const std::string partial = PartialCheckpointPath(run_checkpoints_folder, step, owner);
  TREFOIL_RETURN_IF_ERROR(fs.Remove(partial));  // again, because here a failure counts
  return fs.MakeFolder(partial);
}

absl::Status CommitCheckpoint(FileSystem& fs, const std::string& run_checkpoints_folder, int64_t step,
                              const std::string& owner) {
  const std::string plain = CheckpointPath(run_checkpoints_folder, step);
  const std::string partial = PartialCheckpointPath(run_checkpoints_folder, step, owner);
  if (!fs.Exists(plain)) return RenameDurably(fs, partial, plain);
  // Between the two renames the earlier one is the complete checkpoint of this step, as LatestCheckpoint knows.
  TREFOIL_RETURN_IF_ERROR(RenameDurably(fs, plain, plain + kReplaced));
  if (const absl::Status status = RenameDurably(fs, partial, plain); !status.ok()) {
    RenameDurably(fs, plain + kReplaced, plain).IgnoreError();
    return status;
  }
  WarnIfError(Discard(fs, plain + kReplaced));
  return absl::OkStatus();
}

void RemoveOldCheckpoints(FileSystem& fs, const std::string& run_checkpoints_folder, int64_t step,
                          const KeepPolicy& keep) {
  CHECK_GE(keep.last, 0);
  if (keep.last == 0) return;
  auto complete = ListComplete(fs, run_checkpoints_folder, nullptr);
  if (!complete.ok()) return WarnIfError(complete.status());
  complete->erase(complete->lower_bound(step), complete->end());
  std::erase_if(*complete, [&](const auto& entry) { return keep.ForEver(entry.first) || entry.first == keep.best; });
  for (int64_t surplus = static_cast<int64_t>(complete->size()) - (keep.last - 1); surplus > 0; --surplus) {
    WarnIfError(Discard(fs, complete->begin()->second));
    complete->erase(complete->begin());
  }
}

absl::StatusOr<int64_t> CheckpointBytesOnDisk(FileSystem& fs, const std::string& path) {
  const std::string manifest_path = path + "/" + kManifestFile;
  if (const auto text = ReadFile(fs, manifest_path); text.ok()) {
    if (const auto manifest = DecodeManifest(*text, manifest_path); manifest.ok()) {
      auto bytes = static_cast<int64_t>(text->size());
      for (const PartEntry& part : manifest->parts) bytes += part.file_bytes + part.part_bytes;
      return bytes;
    }
  }
  int64_t bytes = 0;
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(path));
  for (const std::string& name : names) {
    TREFOIL_ASSIGN_OR_RETURN(const auto file, fs.Open(path + "/" + name));
    bytes += file->size();
  }
  return bytes;
}

}  // namespace trefoil
