#include "launcher/checkpoints/copy.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <memory>
#include <set>

#include "checkpoint/upkeep/gather.h"
#include "launcher/checkpoints/beside.h"
#include "launcher/checkpoints/find.h"
#include "launcher/report/progress.h"
#include "runtime/files/folder_lock.h"
#include "runtime/number_text.h"

namespace trefoil {
namespace {

// The folders of one checkpoint, and the run that it is of.
struct Source {
  std::vector<std::string> folders;
  int64_t step = -1;
  std::string run;  // empty: not known
};

absl::StatusOr<Source> FindSource(FileSystem& fs, const std::vector<std::string>& from, std::optional<int64_t> step,
                                  std::ostream& out) {
  std::vector<FoundCheckpoints> all;
  std::set<int64_t> steps;
  Source source;
  for (const std::string& path : from) {
    TREFOIL_ASSIGN_OR_RETURN(FoundCheckpoints found, FindFolders(fs, path));
    // One that was set aside may have what another lacks, if it is named.
    const auto usable = [&](const CheckpointFolder& folder) {
      return folder.kind == CheckpointFolder::kComplete || (found.one && folder.kind == CheckpointFolder::kDamaged);
    };
    std::erase_if(found.folders, [&](const CheckpointFolder& folder) { return !usable(folder); });
    for (const CheckpointFolder& folder : found.folders) steps.insert(folder.step);
    if (source.run.empty()) source.run = found.run;
    all.push_back(std::move(found));
  }
  if (steps.empty()) return absl::NotFoundError(absl::StrJoin(from, ", ") + ": no complete checkpoint");
  source.step = step ? *step : *steps.rbegin();
  if (!steps.contains(source.step)) {
    return absl::NotFoundError(absl::StrCat(absl::StrJoin(from, ", "), ": no complete checkpoint of step ", source.step,
                                            "; there are ", absl::StrJoin(steps.rbegin(), steps.rend(), ", ")));
  }
  for (size_t i = 0; i < all.size(); ++i) {
    const auto& folders = all[i].folders;
    const auto it = std::find_if(folders.begin(), folders.end(),
                                 [&](const CheckpointFolder& folder) { return folder.step == source.step; });
    if (it == folders.end()) out << "note      " << from[i] << " has none of step " << source.step << std::endl;
    if (it != folders.end()) source.folders.push_back(it->path);
  }
  return source;
}

}  // namespace

absl::Status CopyNamed(FileSystem& fs, const std::vector<std::string>& from, const std::string& to,
                       std::optional<int64_t> step, std::ostream& out) {
  TREFOIL_ASSIGN_OR_RETURN(const Source source, FindSource(fs, from, step, out));
  std::string run = to;
  while (run.size() > 1 && run.back() == '/') run.pop_back();
  if (fs.Exists(run + "/manifest.json")) {
    return absl::AlreadyExistsError(run + " is a checkpoint; give the folder of a run, which gets it under checkpoints/");
  }
  const std::string checkpoints = run + "/checkpoints", path = CheckpointPath(checkpoints, source.step);
  const auto taken = [&]() -> absl::Status {
    TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> there, CompleteCheckpoints(fs, checkpoints));
    for (const std::string& other : there) {
      if (StepOf(other) != source.step) continue;
      return absl::AlreadyExistsError(other + " exists already, and nothing is overwritten; give another folder");
    }
    return absl::OkStatus();
  };
  TREFOIL_RETURN_IF_ERROR(taken());
  TREFOIL_RETURN_IF_ERROR(MakeFolderDurably(fs, run));
  TREFOIL_ASSIGN_OR_RETURN(const std::unique_ptr<FolderLock> lock, FolderLock::Take(fs, run));
  TREFOIL_RETURN_IF_ERROR(taken());
  if (!source.run.empty()) {
    const std::string comment = "The config of " + source.run + ", with its folder changed by `trefoil checkpoint copy`.";
    const absl::Status beside = CopyBeside(fs, source.run, run, comment, [](RunConfig* config) {
      // They are the run's own now.
      config->mutable_training()->mutable_checkpoint()->clear_folder();
      config->mutable_training()->mutable_checkpoint()->clear_copies();
    });
    if (absl::IsFailedPrecondition(beside)) return beside;
    if (!beside.ok()) out << "WARNING   config and tokenizer are not copied: " << beside.message() << std::endl;
  }
  const int64_t bytes = CheckpointBytesOnDisk(fs, source.folders[0]).value_or(0);
  ProgressBar bar("copying", bytes, /*workers=*/1);
  GatherOptions options;
  options.progress = [&](int64_t done) { bar.Add(done); };
  options.warn = [&](const std::string& text) { out << "WARNING   " << text << std::endl; };
  options.may_commit = [&] { return lock->Check(); };
  TREFOIL_RETURN_IF_ERROR(GatherCheckpoint(fs, source.folders, checkpoints, lock->id(), options));
  bar.Finish();
  TREFOIL_ASSIGN_OR_RETURN(const int64_t copied, CheckpointBytesOnDisk(fs, path));
  out << "copied    step " << source.step << ", " << BytesText(copied) << ", from " << absl::StrJoin(source.folders, ", ")
      << "\nwritten   " << path << ", each byte as it was saved" << std::endl;
  return absl::OkStatus();
}

}  // namespace trefoil
