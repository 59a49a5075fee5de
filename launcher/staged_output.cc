#include "launcher/staged_output.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <iostream>
#include <utility>

namespace trefoil {

StagedOutput::StagedOutput(FileSystem& fs, std::string folder, Names names)
    : fs_(fs), folder_(std::move(folder)), names_(std::move(names)) {}

absl::StatusOr<std::unique_ptr<StagedOutput>> StagedOutput::Begin(FileSystem& fs, const std::string& folder,
                                                                  Names names, bool overwrite) {
  TREFOIL_RETURN_IF_ERROR(MakeFolderDurably(fs, folder));
  TREFOIL_ASSIGN_OR_RETURN(auto lock, FolderLock::Take(fs, folder));
  if (!lock->took_over().empty()) std::cerr << lock->took_over() << "\n";
  std::unique_ptr<StagedOutput> output(new StagedOutput(fs, folder, std::move(names)));
  TREFOIL_ASSIGN_OR_RETURN(const auto there, output->List(folder));
  if (!there.empty() && !overwrite) {
    return absl::AlreadyExistsError(absl::StrCat("output: ", folder, " already has ", there.front(),
                                                 "; name another folder, or replace what it has with --overwrite"));
  }
  TREFOIL_RETURN_IF_ERROR(fs.Remove(Partial(folder)));
  TREFOIL_RETURN_IF_ERROR(fs.MakeFolder(Partial(folder)));
  output->lock_ = std::move(lock);
  return output;
}

// Whoever has taken the folder over has a `partial` of its own there.
StagedOutput::~StagedOutput() {
  if (lock_ != nullptr && lock_->Check().ok()) fs_.Remove(Partial(folder_)).IgnoreError();
}

absl::StatusOr<std::vector<std::string>> StagedOutput::List(const std::string& folder) const {
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> all, fs_.List(folder));
  std::vector<std::string> names = all;
  std::erase_if(names, [&](const std::string& name) { return !names_.ours(name, all); });
  std::stable_partition(names.begin(), names.end(), [&](const std::string& name) { return !names_.last(name); });
  return names;
}

absl::Status StagedOutput::Publish() {
  TREFOIL_RETURN_IF_ERROR(lock_->Check());
  TREFOIL_ASSIGN_OR_RETURN(auto old_names, List(folder_));
  std::reverse(old_names.begin(), old_names.end());
  for (const std::string& name : old_names) TREFOIL_RETURN_IF_ERROR(fs_.Remove(absl::StrCat(folder_, "/", name)));
  TREFOIL_ASSIGN_OR_RETURN(const auto names, List(Partial(folder_)));
  for (const std::string& name : names) {
    TREFOIL_RETURN_IF_ERROR(
        RenameDurably(fs_, absl::StrCat(Partial(folder_), "/", name), absl::StrCat(folder_, "/", name)));
  }
  return fs_.Remove(Partial(folder_));
}

}  // namespace trefoil
