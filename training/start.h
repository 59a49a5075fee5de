// Where a run starts from, found and checked before any memory is taken or any file is written: its data, the newest
// checkpoint in its folder, and whether this start is of the same run.
//
//   TREFOIL_ASSIGN_OR_RETURN(RunStart start, FindStart(fs, config, *all, /*allow_change=*/false));
//   ... plan, open the device ...
//   TREFOIL_RETURN_IF_ERROR(Train(config, std::move(start), world, device, options));
//
// Threads: the rank's main thread; every rank of the job makes the same call and gets the same Status.
#pragma once

#include <string>
#include <vector>

#include "parallel/collectives.h"
#include "runtime/file.h"
#include "training/run.pb.h"
#include "training/run_data.h"

namespace trefoil {

struct RunStart {
  RunData data;
  std::string checkpoint;  // its folder; empty: none, the run begins
  // All but step and samples_used, for the checkpoints to come.
  TrainerState identity;
  // On rank 0, lines for people: what is ignored, and what this start changes.
  std::vector<std::string> notes;
};

// Failure: data that cannot be opened or differ between ranks (training/run_data.h); a tokenizer that cannot be read, or
// differs between ranks or from the one in the run's folder; a checkpoint, or initial weights, of another model; and unless
// `allow_change`, a checkpoint of a run that this start would give another meaning (training/identity.h).
// Nothing in the run folder has changed, whatever is returned.
absl::StatusOr<RunStart> FindStart(FileSystem& fs, const RunConfig& config, Group& all, bool allow_change);

// On rank 0, before memory is taken. Failure: names the folder.
absl::Status MakeRunFolder(FileSystem& fs, const RunConfig& config);

// Once all is well with the start, on rank 0: the run folder's config.pbtxt, and its tokenizer.model, which its checkpoints
// need to be used. A tokenizer.model of other content, which a start with `allow_change` has found, is kept beside it under
// the name tokenizer-HASH.model.
absl::Status WriteRunFolder(FileSystem& fs, const RunConfig& config);

}  // namespace trefoil
