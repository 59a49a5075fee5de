// The folder of a run's checkpoints, and how a save commits.
//
//   RUN/checkpoints/step-00000100/            a complete checkpoint
//     manifest.json                           what there is (checkpoint/manifest.h)
//     rank-00000.json rank-00001.json ...     what is where (checkpoint/part.h)
//     rank-00000.bin rank-00001.bin ...       the elements
//   RUN/checkpoints/step-00000200.OWNER.partial/   being written, or left by a save that died: never read
//   RUN/checkpoints/step-00000100.replaced/   complete; a save of the same step is taking its place
//   RUN/checkpoints/step-00000050.deleted/    being removed: never read
//   RUN/checkpoints/step-00000150.damaged/    was found to be damaged and set aside: never read, never removed
//
// A checkpoint is complete if and only if its folder bears its plain name. A save writes and flushes every file, the
// manifest last, under ".partial", and one rename of the folder commits it: a process killed before that rename leaves
// the earlier checkpoints as they were, and after it the new one is whole. (Had the files been written under the plain
// name, with only the manifest renamed, every reader would have to open folders to know which count, and a second save
// of one step would overwrite files that the first one's manifest describes.) Removal goes the other way: renamed to
// ".deleted" first, so that a half-removed folder does not look complete. OWNER is the id of the run folder's owner
// (runtime/files/folder_lock.h): ranks of a job that lost the folder and does not know it yet write into a folder of
// their own.
//
// Failure: every Status names the path.
// Threads: one saving job per folder, its owner; any number of readers. RemoveOldCheckpoints may run beside anything
// but BeginCheckpoint and a save of a step before `step`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

// ".../step-00000100"
std::string CheckpointPath(const std::string& run_checkpoints_folder, int64_t step);
// The step of a path that CompleteCheckpoints gave.
int64_t StepOf(const std::string& path);

// What the name of a folder says that is in it.
struct CheckpointFolder {
  enum Kind {
    kComplete,  // under its plain name, or as .replaced where there is none of the plain name
    kPartial,
    kReplaced,  // a checkpoint of that step has taken its place
    kDeleted,
    kDamaged
  };
  Kind kind = kComplete;
  int64_t step = 0;
  std::string path;
  // Of a save or a removal that died, or is at it: the next save removes it.
  bool left_behind() const { return kind == kPartial || kind == kReplaced || kind == kDeleted; }
};
// All of a run, by step. NotFound if there is no such folder.
absl::StatusOr<std::vector<CheckpointFolder>> ListCheckpoints(FileSystem& fs,
                                                              const std::string& run_checkpoints_folder);

// The paths of the complete checkpoints, newest first; empty if there are none (or no such folder). Names of folders that
// are not complete go to `ignored` if given, for a log line. Only names are looked at: whether a checkpoint is damaged
// shows when it is opened and read. Every rank that asks gets the same answer while nobody saves.
absl::StatusOr<std::vector<std::string>> CompleteCheckpoints(FileSystem& fs, const std::string& run_checkpoints_folder,
                                                             std::vector<std::string>* ignored = nullptr);
// The first of them; NotFound if there is none.
absl::StatusOr<std::string> LatestCheckpoint(FileSystem& fs, const std::string& run_checkpoints_folder,
                                             std::vector<std::string>* ignored = nullptr);

// What people mean by a path to a checkpoint: a run's folder, its folder checkpoints, or one of those in there.
struct CheckpointPlace {
  std::vector<std::string> checkpoints;  // the complete ones that may be meant, newest first; at least one
  std::string run;                       // the folder of their run
};
// NotFound if nothing is there, or no complete checkpoint.
absl::StatusOr<CheckpointPlace> FindCheckpoints(FileSystem& fs, std::string path);

// Gives the checkpoint at `path` a name under which nothing reads or removes it; returns it.
absl::StatusOr<std::string> SetAsideDamaged(FileSystem& fs, const std::string& path);

// The three steps of a save on the file system, for rank 0 only; the writer calls them.

// The folder that a save of `step` writes into: ".../step-00000100.OWNER.partial".
std::string PartialCheckpointPath(const std::string& run_checkpoints_folder, int64_t step, const std::string& owner);
// Removes what saves that died have left behind, and makes that folder, empty.
absl::Status BeginCheckpoint(FileSystem& fs, const std::string& run_checkpoints_folder, int64_t step,
                             const std::string& owner);
// Gives that folder its plain name, in place of an earlier checkpoint of the same step if there is one.
absl::Status CommitCheckpoint(FileSystem& fs, const std::string& run_checkpoints_folder, int64_t step,
                              const std::string& owner);

// Which checkpoints stay.
struct KeepPolicy {
  int last = 0;       // so many of the newest; 0: all
  int64_t every = 0;  // besides, for ever, those whose step is a multiple of this; 0: none
  int64_t best = 0;   // besides, that of this step; 0: none
  bool ForEver(int64_t step) const { return every > 0 && step % every == 0; }
};
// Which of the complete checkpoints do not stay beside that of `step`: those of steps before it but for the newest
// keep.last - 1 of them, and the best and those that stay for ever, which do not count among the newest. Checkpoints of
// later steps, left by a run that was set back to an earlier one, stay. Oldest first.
std::vector<CheckpointFolder> SurplusCheckpoints(const std::vector<CheckpointFolder>& folders, int64_t step,
                                                 const KeepPolicy& keep);
// Removes it in a way that can be interrupted: what is left of it does not look complete.
absl::Status RemoveCheckpoint(FileSystem& fs, const CheckpointFolder& folder);
// Removes the surplus. What cannot be removed is logged as a warning and tried again at the next save.
void RemoveOldCheckpoints(FileSystem& fs, const std::string& run_checkpoints_folder, int64_t step,
                          const KeepPolicy& keep);

// Removes all complete checkpoints; what cannot be removed is logged.
void RemoveAllCheckpoints(FileSystem& fs, const std::string& run_checkpoints_folder);

// Bytes of all files of a checkpoint, as its manifest has them; where that is not readable, of all files in the folder.
absl::StatusOr<int64_t> CheckpointBytesOnDisk(FileSystem& fs, const std::string& path);
// Of all files in a folder, as they are.
absl::StatusOr<int64_t> BytesOfFiles(FileSystem& fs, const std::string& folder);

}  // namespace trefoil
