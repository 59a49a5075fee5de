// A model with low-rank adapters (model/layers/low_rank.h) as the plain one that computes the same: each adapted matrix
// W becomes W + (alpha / rank) B A (Hu et al. 2021, section 4.1: no added latency), rounded once.
//
// Threads: one.
#pragma once

#include <string>

#include "parallel/collectives/group.h"
#include "runtime/files/file.h"

namespace trefoil {

// What was written, and of how many matrices.
struct MergedCheckpoint {
  std::string path;
  int matrices = 0;
};
// Reads a checkpoint's folder and writes RUN/checkpoints/step-N of the same step, with the weights and no optimizer
// state: to generate with, and for training.checkpoint.initial_weights. `alone`: a group of this rank. Takes the memory
// of a matrix and its adapters. Failure: that of reading and writing; a checkpoint that has no adapters.
absl::StatusOr<MergedCheckpoint> MergeAdapters(FileSystem& fs, Group& alone, const std::string& checkpoint,
                                               const std::string& run);

}  // namespace trefoil
