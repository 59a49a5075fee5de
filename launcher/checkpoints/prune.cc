#include "launcher/checkpoints/prune.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "checkpoint/upkeep/verify.h"
#include "launcher/checkpoints/find.h"
#include "runtime/files/folder_lock.h"
#include "runtime/number_text.h"

namespace trefoil {
namespace {

absl::Status CheckOptions(const PruneOptions& options) {
  if (options.keep_last < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--keep_last: ", options.keep_last, ", must be at least 0, which keeps all; nearest legal: 0"));
  }
  if (options.keep_every < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--keep_every: ", options.keep_every, ", must be at least 0; nearest legal: 0"));
  }
  if (options.keep_every > 0 && options.keep_last == 0) {
    return absl::InvalidArgumentError(absl::StrCat("--keep_every: ", options.keep_every, ", but --keep_last 0 keeps all; ",
                                                   "nearest legal: --keep_last=1, or no --keep_every"));
  }
  return absl::OkStatus();
}

std::string LineOf(const char* what, const std::string& folder, const std::string& more) {
  return absl::StrFormat("%-12s%s%s%s\n", what, folder, more.empty() ? "" : "  ", more);
}

}  // namespace

absl::Status PruneNamed(FileSystem& fs, const std::string& path, const PruneOptions& options, std::ostream& out) {
  TREFOIL_RETURN_IF_ERROR(CheckOptions(options));
  TREFOIL_ASSIGN_OR_RETURN(FoundCheckpoints found, FindFolders(fs, path));
  if (found.one) {
    return absl::InvalidArgumentError(path + " is one checkpoint; give its run's folder, or the folder checkpoints in it");
  }
  // Taken for a dry run too: of a run that goes on it would not say what is there a moment later.
  TREFOIL_ASSIGN_OR_RETURN(const std::unique_ptr<FolderLock> lock,
                           FolderLock::Take(fs, found.run.empty() ? found.folder : found.run));
  if (!lock->took_over().empty()) out << lock->took_over() << "\n";
  TREFOIL_ASSIGN_OR_RETURN(found, FindFolders(fs, path));

  std::vector<CheckpointFolder> counted, gone;
  for (const CheckpointFolder& folder : found.folders) {
    if (folder.left_behind()) gone.push_back(folder);
    if (folder.kind == CheckpointFolder::kDamaged) out << LineOf("left", folder.path, "set aside as damaged");
    if (folder.kind != CheckpointFolder::kComplete) continue;
    const auto files = LookForFiles(fs, folder.path);
    const std::string wrong = files.ok() ? files->wrong : std::string(files.status().message());
    if (wrong.empty()) counted.push_back(folder);
    if (!wrong.empty()) out << LineOf("left", folder.path, "damaged, not counted: " + wrong);
  }
  found.folders = counted;
  const int64_t best = BestHeldOut(fs, found);
  const KeepPolicy keep = {.last = options.keep_last, .every = options.keep_every, .best = best};
  const std::vector<CheckpointFolder> surplus = SurplusCheckpoints(counted, found.NewestStep(), keep);
  gone.insert(gone.end(), surplus.begin(), surplus.end());

  int64_t freed = 0, removed = 0;
  absl::Status failed;
  for (const CheckpointFolder& folder : gone) {
    const int64_t bytes = BytesOfFiles(fs, folder.path).value_or(0);
    const absl::Status status = options.dry_run ? absl::OkStatus() : RemoveCheckpoint(fs, folder);
    failed.Update(status);
    if (!status.ok()) continue;
    freed += bytes;
    ++removed;
    const std::string died = folder.left_behind() ? ", left by a save that died" : "";
    out << LineOf(options.dry_run ? "would go" : "removed", folder.path, BytesText(bytes) + died);
  }
  std::vector<std::string> stay;
  for (const CheckpointFolder& folder : counted) {
    const auto same = [&](const CheckpointFolder& other) { return other.path == folder.path; };
    if (std::none_of(surplus.begin(), surplus.end(), same)) stay.push_back(absl::StrCat(folder.step, folder.step == best ? " (best held-out)" : ""));
  }
  out << LineOf(options.dry_run ? "would free" : "freed", BytesText(freed),
                absl::StrCat("in ", removed, removed == 1 ? " folder" : " folders"))
      << LineOf("stay", stay.empty() ? "none" : "step " + absl::StrJoin(stay, ", "), "");
  out.flush();
  return failed;
}

}  // namespace trefoil
