// Saves the state of a run: every rank writes its slices of the global tensors to a file of its own and beside it the
// part of the manifest that is about them, and rank 0 the manifest that names the parts.
//
//   CheckpointContent content;
//   content.step = 100;
//   content.trainer_state = state_text;          // whatever the trainer wants back
//   content.model = model_config_text;           // for the trainer to compare when it loads
//   content.parts = store.state_parts();         // this rank's part; together the ranks cover every tensor once
//   content.part = [&](int i) { ... };
//   content.owner = lock_id;
//   TREFOIL_RETURN_IF_ERROR(WriteCheckpoint(fs, all_ranks, run + "/checkpoints", content));
//   if (rank == 0) RemoveOldCheckpoints(fs, run + "/checkpoints", 100, {.last = 3});    // checkpoint/directory.h
//
// Any set of ranks on any layout can load it (checkpoint/reader.h). On hosts with folders of their own
// (checkpoint/storage.h) each host's folder gets the files of its ranks and the copies that it holds, and the manifest.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/rank_part.h"
#include "checkpoint/storage.h"
#include "parallel/collectives/group.h"
#include "parallel/sharded_tensor.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

struct CheckpointContent {
  int64_t step = 0;           // at least 0
  std::string trainer_state;  // opaque; UTF-8; rank 0's is written
  std::string model;          // opaque; UTF-8; rank 0's is written
  // What this rank writes (checkpoint/rank_part.h). Elements must not change until they are written. Names are UTF-8.
  int parts = 0;
  std::function<std::vector<ShardedTensor>(int)> part;
  // Of the run folder (runtime/files/folder_lock.h), the same on every rank: names the unfinished folder.
  std::string owner;
  // Who leads (checkpoint/storage.h) asks before it makes anything, and again before it commits; an error is the save's.
  // Null: not asked.
  std::function<absl::Status()> may_write;
};

// Called by every rank of `all_ranks`, all of the job, with the same storage, step and owner; the folder is made if absent.
// On return with OK, on every rank, the checkpoint is on disk (flushed) and complete, with its copies. An earlier checkpoint
// of the same step is replaced; others are left alone.
//
// Cost on every rank, besides the elements, which are written from where they are: messages as the logarithm of the ranks;
// memory and bytes as the rank's own slices, with the names of all tensors and some 50 bytes a rank. Whether the slices of
// all ranks tile the tensors is found out by all ranks together (checkpoint/slice_directory.h).
//
// Failure (full disk, folder not writable, folder not the same one on all ranks ...): every rank gets the same error, the
// one of the lowest rank that failed; nothing is committed; earlier checkpoints are as they were; the unfinished folder
// is removed, now if possible, else by the next save. The same holds if processes are killed at any moment. Hosts commit
// each for itself, after all have all their files on disk: where one of them fails or dies in that moment, others may have
// committed, and the checkpoint is there if these have all files together.
// Slices that overlap, leave a part of a global tensor to nobody, or disagree on its dtype or shape are a bug of the
// caller: CHECK, with the tensor named.
absl::Status WriteCheckpoint(FileSystem& fs, Group& all_ranks, const CheckpointStorage& storage,
                             const CheckpointContent& content);

// The same in its steps, for who writes elements while the ranks do other things:
//
//   TREFOIL_RETURN_IF_ERROR(BeginSave(fs, all_ranks, storage, content));         // every rank: the folder is there
//   const auto part = WriteWithCopies(fs, others, storage, PartialCheckpointPath(storage.folder, step, owner), ...);
//   TREFOIL_RETURN_IF_ERROR(FinishSave(fs, all_ranks, storage, content, part));  // every rank: agree, commit
//
// `content`: the same in both calls, its slices are not looked at. `written`: this rank's, or why there is none, which
// is then the save's failure. WriteWithCopies is WriteRankPart (checkpoint/rank_part.h), and SendCopies
// (checkpoint/host_copies.h) where there are copies: on any thread, with a group of its own of all ranks of the job.
absl::Status BeginSave(FileSystem& fs, Group& all_ranks, const CheckpointStorage& storage,
                       const CheckpointContent& content);
absl::StatusOr<RankPart> WriteWithCopies(FileSystem& fs, Group& all_ranks, const CheckpointStorage& storage,
                                         const std::string& folder, int parts,
                                         const std::function<std::vector<ShardedTensor>(int)>& part);
absl::Status FinishSave(FileSystem& fs, Group& all_ranks, const CheckpointStorage& storage,
                        const CheckpointContent& content, const absl::StatusOr<RankPart>& written);

}  // namespace trefoil
