// The run's folder, owned: what every rank of a job makes before anything is written into it.
//
//   TREFOIL_ASSIGN_OR_RETURN(const std::unique_ptr<RunFolder> folder,
//                            RunFolder::Take(fs, config.folder(), storage, all, &notes));
//   ... checkpoints are saved as folder->owner(), asking folder->Check() ...
//
// Rank 0 makes the folder and takes its lock (runtime/files/folder_lock.h); then every rank looks whether it sees that
// lock, under rank 0's path: on hosts with a folder each of that name it does not. Where checkpoints, or snapshots in
// memory, lie in folders of hosts' own, the first rank of each host makes and locks those too; with the checkpoints on hosts
// nobody but rank 0 needs to see the run's. All of
// it takes milliseconds and needs no model.
//
// Failure: the same Status on every rank: a folder cannot be made; another run has it (FailedPrecondition, one line
// with host, process, job, since when), or another host of this one, which should have a folder of its own; a rank does
// not see it (its host is named). The folder is as it was. Threads: the rank's main thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/storage.h"
#include "parallel/collectives/group.h"
#include "runtime/files/file.h"
#include "runtime/files/folder_lock.h"

namespace trefoil {

// Where a run's checkpoints lie.
struct RunStorage {
  CheckpointStorage disk;
  std::optional<CheckpointStorage> memory;  // its snapshots in the hosts' memory

  // The one that a checkpoint at this path is in.
  const CheckpointStorage& Of(const std::string& path) const {
    return memory.has_value() && path.starts_with(memory->folder + "/") ? *memory : disk;
  }
};

class RunFolder {
 public:
  // `fs` must outlive the folder. `all`: every rank of the job; used within the call only. `notes`: gets rank 0's lines
  // for people.
  static absl::StatusOr<std::unique_ptr<RunFolder>> Take(FileSystem& fs, const std::string& path,
                                                         const RunStorage& storage, Group& all,
                                                         std::vector<std::string>* notes);
  ~RunFolder();
  // The id of rank 0's lock, on every rank.
  const std::string& owner() const { return owner_; }
  const RunStorage& storage() const { return storage_; }
  // FailedPrecondition if another has taken a folder over that this rank has locked.
  absl::Status Check();

 private:
  RunFolder(FileSystem& fs, RunStorage storage) : fs_(fs), storage_(std::move(storage)) {}
  FileSystem& fs_;
  const RunStorage storage_;
  std::string owner_;
  std::unique_ptr<FolderLock> lock_;                     // rank 0
  std::vector<std::unique_ptr<FolderLock>> host_locks_;  // the first of each host with folders of its own
};

}  // namespace trefoil
