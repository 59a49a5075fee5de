// The run's folder, owned: what every rank of a job makes before anything is written into it.
//
//   TREFOIL_ASSIGN_OR_RETURN(const std::unique_ptr<RunFolder> folder,
//                            RunFolder::Take(fs, config.folder(), storage, all, &notes));
//   ... checkpoints are saved as folder->owner(), asking folder->Check() ...
//
// Rank 0 makes the folder and takes its lock (runtime/files/folder_lock.h); then every rank looks whether it sees that
// lock, under rank 0's path: on hosts with a folder each of that name it does not. Where checkpoints lie in folders of
// hosts' own, the first rank of each host makes and locks that one too, and nobody but rank 0 needs to see the run's. All of
// it takes milliseconds and needs no model.
//
// Failure: the same Status on every rank: a folder cannot be made; another run has it (FailedPrecondition, one line
// with host, process, job, since when), or another host of this one, which should have a folder of its own; a rank does
// not see it (its host is named). The folder is as it was. Threads: the rank's main thread.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/storage.h"
#include "parallel/collectives/group.h"
#include "runtime/files/file.h"
#include "runtime/files/folder_lock.h"

namespace trefoil {

class RunFolder {
 public:
  // `fs` must outlive the folder. `all`: every rank of the job; used within the call only. `notes`: gets rank 0's lines
  // for people.
  static absl::StatusOr<std::unique_ptr<RunFolder>> Take(FileSystem& fs, const std::string& path,
                                                         const CheckpointStorage& storage, Group& all,
                                                         std::vector<std::string>* notes);
  // The id of rank 0's lock, on every rank.
  const std::string& owner() const { return owner_; }
  // Where the run's checkpoints lie.
  const CheckpointStorage& storage() const { return storage_; }
  // FailedPrecondition if another has taken a folder over that this rank has locked.
  absl::Status Check();

 private:
  explicit RunFolder(CheckpointStorage storage) : storage_(std::move(storage)) {}
  const CheckpointStorage storage_;
  std::string owner_;
  std::unique_ptr<FolderLock> lock_;          // rank 0
  std::unique_ptr<FolderLock> of_host_lock_;  // the first of each host with a folder of its own
};

}  // namespace trefoil
