// Which checkpoint is used: of a run that goes on the newest, of what has been trained the best that is known, and another
// when that one is damaged.
//
// One that is damaged (truncated, files missing, a checksum that does not match, a sector that the disk gives up) is passed
// over for the one before it, with a warning that names what is damaged. A run that goes on keeps it as step-N.damaged;
// who only reads leaves it as it is. If none is whole that is an error: a run never goes back to random weights by itself.
//
// Threads: the rank's main thread.
#pragma once

#include <cstdint>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "checkpoint/directory.h"
#include "training/saving/resume.h"

namespace trefoil {

// What people mean who name something that has been trained, to use it or to train on from it: as FindCheckpoints
// (checkpoint/directory.h), but that of the best evaluation comes first where the run keeps it (training.early_stop), and
// of a run whose hosts keep checkpoints of their own those of this host are meant.
absl::StatusOr<CheckpointPlace> FindTrained(FileSystem& fs, const std::string& path);

// The step of the best evaluation, as the run of these checkpoints (newest first) knows it; 0: it compares none.
int64_t BestStep(FileSystem& fs, const std::vector<std::string>& checkpoints);

// The first of `checkpoints` (the one that is meant first) that `load` finds whole. `load` opens or reads one. Where its
// error says that the checkpoint is not what was written (NotFound, OutOfRange, DataLoss, Unknown), the path goes to the
// end of `damaged`, `warn` gets "WARNING: PATH is damaged: ...", and the next is tried; any other error (of another
// model, not to be read just now) is returned.
// Failure: that, or none is whole; then the message names all that are in `damaged`.
absl::StatusOr<std::string> FirstWhole(const std::vector<std::string>& checkpoints,
                                       const std::function<absl::Status(const std::string& path)>& load,
                                       std::vector<std::string>* damaged,
                                       const std::function<void(const std::string& text)>& warn);

// What a run may go on from.
struct Candidates {
  std::vector<std::string> checkpoints;  // newest first
  std::vector<std::string> damaged;      // newer ones, whose manifests are damaged
  // Of hosts with folders of their own: where the files of the others are.
  std::vector<CheckpointOnHosts> on_hosts;
  // The one at that path; null if its files are all in the folder.
  const CheckpointOnHosts* OnHosts(const std::string& path) const;
};

// Loads the first of the candidates, of which there is at least one, that is whole into the worker, and says which. Sets
// aside those before it and the damaged ones. `say`: rank 0's lines to people; elsewhere a sink. Every rank of the job makes
// the same call and gets the same Status.
absl::StatusOr<TrainerState> LoadNewest(FileSystem& fs, Worker& worker, const RunStorage& storage,
                                        Candidates candidates, std::ostream& say);

}  // namespace trefoil
