// Saves the state of a run: every rank writes its slices of the global tensors to a file of its own, and rank 0 the
// manifest.
//
//   CheckpointContent content;
//   content.step = 100;
//   content.trainer_state = state_text;          // whatever the trainer wants back
//   content.model = model_config_text;           // for the trainer to compare when it loads
//   content.slices = store.State();              // this rank's part; together the ranks cover every tensor once
//   TREFOIL_RETURN_IF_ERROR(WriteCheckpoint(fs, all_ranks, run + "/checkpoints", content, /*keep_last=*/3));
//
// Any set of ranks on any layout can load it (checkpoint/reader.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/collectives.h"
#include "parallel/sharded_tensor.h"
#include "runtime/file.h"
#include "runtime/status.h"

namespace trefoil {

struct CheckpointContent {
  int64_t step = 0;           // at least 0
  std::string trainer_state;  // opaque; UTF-8; rank 0's is written
  std::string model;          // opaque; UTF-8; rank 0's is written
  // What this rank writes; the elements must not change until the call returns. Names are UTF-8. Slices of no elements
  // are left out.
  std::vector<ShardedTensor> slices;
};

// Called by every rank of `all_ranks` with the same folder, step and keep_last; the folder is shared by all of them and
// made if absent. On return with OK, on every rank, the checkpoint is on disk (flushed) and complete, and on rank 0 all
// but the last `keep_last` checkpoints up to this step are removed (0: all are kept). An earlier checkpoint of the same
// step is replaced.
//
// Memory: the text of the whole manifest on every rank, a few times its size on rank 0; elements are written from where
// they are.
//
// Failure (full disk, folder not writable ...): every rank gets the same error, the one of the lowest rank that failed;
// nothing is committed; earlier checkpoints are as they were; the unfinished folder is removed, now if possible, else
// by the next save. The same holds if processes are killed at any moment.
// Slices that overlap, leave a part of a global tensor to nobody, or disagree on its dtype or shape are a bug of the
// caller: CHECK, with the tensor named.
absl::Status WriteCheckpoint(FileSystem& fs, Group& all_ranks, const std::string& run_checkpoints_folder,
                             const CheckpointContent& content, int keep_last);

}  // namespace trefoil
