// Room for a run's checkpoints on the file system that holds its folder.
//
//   TREFOIL_RETURN_IF_ERROR(CheckSpace(fs, config, /*share=*/1, /*step=*/0, &notes));     // before the first step
//
// A checkpoint holds three float32 numbers for each parameter (weight, first and second moment), or one if it is not
// trained. While a new one is being written the old ones are still there, so a run that keeps the last K needs room for
// K + 1. Where there is more, saves in the background take that of K + 2 for a moment (training/saving/saver.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/files/file.h"
#include "runtime/status.h"
#include "training/run.pb.h"

namespace trefoil {

// Of one, without its manifest (some KB a rank).
int64_t CheckpointBytes(const RunConfig& config);

// What snapshots in memory take of the host's memory for each of its ranks, with the one that is written: the mean over
// the ranks. 0 if there are none.
int64_t SnapshotBytesOfRank(const RunConfig& config, int64_t ranks, int hosts);

// How many checkpoints a run that has done `step` steps will add to its folder and hold at the same time: those kept
// for ever, the best one where there is an early stop, and of the others one more than it keeps.
int64_t MostCheckpoints(const TrainingConfig& training, int64_t step);

// For who leads (checkpoint/storage.h), before the first step. share: of a checkpoint that lies there, all of it or, in a
// folder of a host's own, less, or more. ResourceExhausted if not even the next checkpoint fits; a line of warning in `notes`
// if the run will run out of room later. What lies there and will be removed counts as room, but for the first. Quotas
// are not seen.
absl::Status CheckSpace(FileSystem& fs, const RunConfig& config, double share, int64_t step,
                        std::vector<std::string>* notes);

// For the first rank of each host: ResourceExhausted if the memory's file system has no room for two snapshots, of which so
// large a share of a checkpoint lies there: the newest, which may be in `folder`, and the one that is written.
absl::Status CheckMemorySpace(FileSystem& fs, const RunConfig& config, const std::string& folder, double share);

}  // namespace trefoil
