// The folder of a run's checkpoints, and how a save commits.
//
//   RUN/checkpoints/step-00000100/            a complete checkpoint
//     manifest.json                           what is where (checkpoint/manifest.h)
//     rank-00000.bin rank-00001.bin ...       the elements
//   RUN/checkpoints/step-00000200.partial/    being written, or left by a save that died: never read
//   RUN/checkpoints/step-00000100.replaced/   complete; a save of the same step is taking its place
//   RUN/checkpoints/step-00000050.deleted/    being removed: never read
//
// A checkpoint is complete if and only if its folder bears its plain name. A save writes and flushes every file, the
// manifest last, under ".partial", and one rename of the folder commits it: a process killed before that rename leaves
// the earlier checkpoints as they were, and after it the new one is whole. (Had the files been written under the plain
// name, with only the manifest renamed, every reader would have to open folders to know which count, and a second save
// of one step would overwrite files that the first one's manifest describes.) Removal goes the other way: renamed to
// ".deleted" first, so that a half-removed folder does not look complete.
//
// Failure: every Status names the path.
// Threads: one saving job per folder; any number of readers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/file.h"
#include "runtime/status.h"

namespace trefoil {

// ".../step-00000100"
std::string CheckpointPath(const std::string& run_checkpoints_folder, int64_t step);

// The path of the newest complete checkpoint. NotFound if there is none (or no such folder). Names of folders that are
// not complete go to `ignored` if given, for a log line. Only names are looked at: a newest checkpoint that is damaged
// is still the newest, and opening it says so, rather than a run going back hundreds of steps in silence.
// Every rank that asks gets the same answer while nobody saves.
absl::StatusOr<std::string> LatestCheckpoint(FileSystem& fs, const std::string& run_checkpoints_folder,
                                             std::vector<std::string>* ignored = nullptr);

// The three steps of a save on the file system, for rank 0 only; the writer calls them.

// The folder that a save of `step` writes into: ".../step-00000100.partial".
std::string PartialCheckpointPath(const std::string& run_checkpoints_folder, int64_t step);
// Removes what saves that died have left behind, and makes that folder, empty.
absl::Status BeginCheckpoint(FileSystem& fs, const std::string& run_checkpoints_folder, int64_t step);
// Gives that folder its plain name, in place of an earlier checkpoint of the same step if there is one.
absl::Status CommitCheckpoint(FileSystem& fs, const std::string& run_checkpoints_folder, int64_t step);
// Removes complete checkpoints of steps before `step` but for the newest `keep_last` - 1 of them (keep_last 0: none is
// removed). Checkpoints of later steps, left by a run that was set back to an earlier one, are not touched. What cannot
// be removed is logged as a warning and tried again at the next save.
void RemoveOldCheckpoints(FileSystem& fs, const std::string& run_checkpoints_folder, int64_t step, int keep_last);

}  // namespace trefoil
