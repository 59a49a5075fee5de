// The run's folder, owned: what every rank of a job makes before anything is written into it.
//
//   TREFOIL_ASSIGN_OR_RETURN(const std::unique_ptr<RunFolder> folder, RunFolder::Take(fs, config.folder(), all,
//   &notes));
//   ... checkpoints are saved as folder->owner(), asking folder->Check() ...
//
// Rank 0 makes the folder and takes its lock (runtime/files/folder_lock.h); then every rank looks whether it sees that
// lock, under rank 0's path: on hosts with a folder each of that name it does not. Both take milliseconds and need no
// model.
//
// Failure: the same Status on every rank: the folder cannot be made; another run has it (FailedPrecondition, one line
// with host, process, job, since when); a rank does not see it (its host is named). The folder is as it was. Threads:
// the rank's main thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/collectives/group.h"
#include "runtime/files/file.h"
#include "runtime/files/folder_lock.h"

namespace trefoil {

class RunFolder {
 public:
  // `fs` must outlive the folder. `all`: every rank of the job; used within the call only. `notes`: gets rank 0's lines
  // for people.
  static absl::StatusOr<std::unique_ptr<RunFolder>> Take(FileSystem& fs, const std::string& path, Group& all,
                                                         std::vector<std::string>* notes);
  // The id of rank 0's lock, on every rank.
  const std::string& owner() const { return owner_; }
  // Rank 0: FailedPrecondition if another has taken the folder over. Elsewhere OK.
  absl::Status Check() { return lock_ == nullptr ? absl::OkStatus() : lock_->Check(); }

 private:
  RunFolder() = default;
  std::string owner_;
  std::unique_ptr<FolderLock> lock_;  // rank 0
};

}  // namespace trefoil
