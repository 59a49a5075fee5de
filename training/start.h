// Where a run starts from, found and checked before any memory is taken or any file is written: its data, the newest
// checkpoint in its folder, and whether this start is of the same run.
//
//   TREFOIL_ASSIGN_OR_RETURN(RunStart start, FindStart(fs, config, *all, /*allow_change=*/false));
//   ... plan, open the device ...
//   TREFOIL_RETURN_IF_ERROR(Train(config, std::move(start), world, device, options));
//
// Threads: the rank's main thread; every rank of the job makes the same call and gets the same Status.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "parallel/collectives/group.h"
#include "runtime/files/file.h"
#include "training/run.pb.h"
#include "training/run_data.h"
#include "training/run_folder.h"
#include "training/saving/newest_checkpoint.h"
#include "training/trainer_state.pb.h"

namespace trefoil {

struct RunStart {
  RunData data;
  RunStorage storage = {.disk = "", .memory = std::nullopt};
  std::unique_ptr<RunFolder> folder;  // null: yet to be made
  // Where the run goes on from, and those before it, should it turn out to be damaged. None: the run begins.
  Candidates candidates;
  // What lies in memory is of a run that is not there any more.
  bool drop_snapshots = false;
  // Of a run that begins: the folder of the checkpoint whose weights it takes; empty: random ones.
  std::string initial_weights;
  // All but step and samples_used, for the checkpoints to come.
  TrainerState identity;
  // On rank 0, lines for people: what is ignored, and what this start changes.
  std::vector<std::string> notes;
};

// From here on the job owns the run's folder (training/run_folder.h), if there is one.
//
// Failure: data that cannot be opened or differ between ranks (training/run_data.h); a tokenizer that cannot be read,
// or differs between ranks or from the one in the run's folder; a run folder that is another job's, or not the same one
// on all hosts; checkpoints of which none has a readable manifest; no room for a checkpoint
// (training/saving/checkpoint_space.h); a checkpoint, or initial weights, of another model; and unless `allow_change`,
// a checkpoint or initial weights that this start would give another meaning (training/identity.h). Nothing in the run
// folder has changed, whatever is returned, but for its lock.
absl::StatusOr<RunStart> FindStart(FileSystem& fs, const RunConfig& config, Group& all, bool allow_change);

// Before memory is taken, on every rank: makes the run folder and owns it, if it was not there. Failure: as of
// RunFolder::Take; or another job has trained in it meanwhile.
absl::Status OwnRunFolder(FileSystem& fs, const RunConfig& config, Group& all, RunStart* start);

// Once all is well with the start, on rank 0: the run folder's config.pbtxt, and its tokenizer with what lies beside it,
// which its checkpoints need to be used (data/tokens/tokenizer_files.h). A tokenizer of other content, which a start with
// `allow_change` has found, is kept beside it under the name of a replaced one.
absl::Status WriteRunFolder(FileSystem& fs, const RunConfig& config);

}  // namespace trefoil
