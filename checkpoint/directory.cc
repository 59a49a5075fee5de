#include "checkpoint/directory.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/strip.h>
#include <glog/logging.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "checkpoint/manifest.h"

namespace trefoil {
namespace {

constexpr char kPartial[] = ".partial", kReplaced[] = ".replaced", kDeleted[] = ".deleted", kDamaged[] = ".damaged";

// Of a folder's name. Kind: kReplaced of every .replaced, whatever else there is.
struct Parsed {
  CheckpointFolder::Kind kind = CheckpointFolder::kComplete;
  int64_t step = 0;
};

std::optional<Parsed> ParseName(absl::string_view name) {
  const size_t digits_end = std::min(name.find('.'), name.size());
  absl::string_view digits = name.substr(0, digits_end), rest = name.substr(digits_end);
  Parsed parsed;
  if (!absl::ConsumePrefix(&digits, "step-") || !absl::SimpleAtoi(digits, &parsed.step) || parsed.step < 0) {
    return std::nullopt;
  }
  if (name.substr(0, digits_end) != absl::StrFormat("step-%08d", parsed.step)) return std::nullopt;
  if (absl::EndsWith(rest, kPartial)) {
    parsed.kind = CheckpointFolder::kPartial;
  } else if (absl::StartsWith(rest, kDamaged)) {
    parsed.kind = CheckpointFolder::kDamaged;
  } else if (rest == kReplaced) {
    parsed.kind = CheckpointFolder::kReplaced;
  } else if (rest == kDeleted) {
    parsed.kind = CheckpointFolder::kDeleted;
  } else if (!rest.empty()) {
    return std::nullopt;
  }
  return parsed;
}

std::string NameOf(const std::string& path) { return path.substr(path.rfind('/') + 1); }

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
  const std::optional<Parsed> parsed = ParseName(NameOf(path));
  CHECK(parsed.has_value()) << path;
  return parsed->step;
}

std::string PartialCheckpointPath(const std::string& run_checkpoints_folder, int64_t step, const std::string& owner) {
  return CheckpointPath(run_checkpoints_folder, step) + "." + owner + kPartial;
}

absl::StatusOr<std::vector<CheckpointFolder>> ListCheckpoints(FileSystem& fs,
                                                              const std::string& run_checkpoints_folder) {
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(run_checkpoints_folder));
  std::vector<CheckpointFolder> folders;
  std::set<int64_t> complete;
  for (const std::string& name : names) {  // sorted: "step-X" comes before "step-X.replaced"
    const std::optional<Parsed> parsed = ParseName(name);
    if (!parsed) continue;
    CheckpointFolder::Kind kind = parsed->kind;
    if (kind == CheckpointFolder::kReplaced && !complete.contains(parsed->step)) kind = CheckpointFolder::kComplete;
    if (kind == CheckpointFolder::kComplete) complete.insert(parsed->step);
    folders.push_back({.kind = kind, .step = parsed->step, .path = run_checkpoints_folder + "/" + name});
  }
  // By step, not by name: steps of more than eight digits.
  std::stable_sort(folders.begin(), folders.end(), [](const auto& a, const auto& b) { return a.step < b.step; });
  return folders;
}

absl::StatusOr<std::vector<std::string>> CompleteCheckpoints(FileSystem& fs, const std::string& run_checkpoints_folder,
                                                             std::vector<std::string>* ignored) {
  const auto folders = ListCheckpoints(fs, run_checkpoints_folder);
  if (absl::IsNotFound(folders.status())) return std::vector<std::string>();
  TREFOIL_RETURN_IF_ERROR(folders.status());
  std::vector<std::string> complete;
  for (const CheckpointFolder& folder : *folders) {
    if (folder.kind == CheckpointFolder::kComplete) {
      complete.push_back(folder.path);
    } else if (ignored != nullptr) {
      ignored->push_back(NameOf(folder.path));
    }
  }
  std::reverse(complete.begin(), complete.end());
  return complete;
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
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<CheckpointFolder> folders, ListCheckpoints(fs, run_checkpoints_folder));
  for (const CheckpointFolder& folder : folders) {
    if (folder.kind == CheckpointFolder::kComplete && absl::EndsWith(folder.path, kReplaced)) {
      // The save that was to take its place died.
      TREFOIL_RETURN_IF_ERROR(RenameDurably(fs, folder.path, CheckpointPath(run_checkpoints_folder, folder.step)));
    } else if (folder.left_behind()) {
      WarnIfError(RemoveCheckpoint(fs, folder));
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

std::vector<CheckpointFolder> SurplusCheckpoints(const std::vector<CheckpointFolder>& folders, int64_t step,
                                                 const KeepPolicy& keep) {
  CHECK_GE(keep.last, 0);
  if (keep.last == 0) return {};
  std::vector<CheckpointFolder> surplus;
  for (const CheckpointFolder& folder : folders) {
    const bool stays = folder.step >= step || keep.ForEver(folder.step) || folder.step == keep.best;
    if (folder.kind == CheckpointFolder::kComplete && !stays) surplus.push_back(folder);
  }
  surplus.resize(surplus.size() - std::min(surplus.size(), static_cast<size_t>(keep.last - 1)));
  return surplus;
}

absl::Status RemoveCheckpoint(FileSystem& fs, const CheckpointFolder& folder) {
  const bool looks_complete = folder.kind == CheckpointFolder::kComplete || folder.kind == CheckpointFolder::kReplaced;
  return looks_complete ? Discard(fs, folder.path) : fs.Remove(folder.path);
}

void RemoveOldCheckpoints(FileSystem& fs, const std::string& run_checkpoints_folder, int64_t step,
                          const KeepPolicy& keep) {
  if (keep.last == 0) return;
  const auto folders = ListCheckpoints(fs, run_checkpoints_folder);
  if (!folders.ok()) return WarnIfError(folders.status());
  for (const CheckpointFolder& folder : SurplusCheckpoints(*folders, step, keep)) {
    WarnIfError(RemoveCheckpoint(fs, folder));
  }
}

void RemoveAllCheckpoints(FileSystem& fs, const std::string& run_checkpoints_folder) {
  const auto folders = ListCheckpoints(fs, run_checkpoints_folder);
  if (!folders.ok()) return WarnIfError(folders.status());
  for (const CheckpointFolder& folder : *folders) {
    if (folder.kind == CheckpointFolder::kComplete) WarnIfError(RemoveCheckpoint(fs, folder));
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
  return BytesOfFiles(fs, path);
}

absl::StatusOr<int64_t> BytesOfFiles(FileSystem& fs, const std::string& folder) {
  int64_t bytes = 0;
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(folder));
  for (const std::string& name : names) {
    TREFOIL_ASSIGN_OR_RETURN(const auto file, fs.Open(folder + "/" + name));
    bytes += file->size();
  }
  return bytes;
}

}  // namespace trefoil
