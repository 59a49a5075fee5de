// What of a run lies on one rank, as shares of the whole: of the network, of the buffers that belong to it, of the batch.
//
//   const RankShare share = ShareOf(config, /*rank=*/5);
//   share.layers;             // {{0.0, 0.5}}: of all modules one after the other; two pieces where a stage has two chunks
//   share.columns;            // {0.5, 1.0}: of each matrix
//   share.optimizer.length();  // 0.25: of the elements of those layers and columns
//
// All are ranges within [0, 1]. Of a config that is filled and legal, with its vocabulary set.
//
// Threads: pure functions.
#pragma once

#include <vector>

#include "training/run.pb.h"

namespace trefoil {

// Of a whole that is 1 long.
struct Part {
  double begin = 0, end = 1;
  double length() const { return end - begin; }
  bool operator==(const Part&) const = default;
};

struct RankShare {
  std::vector<Part> layers;  // by number of modules
  Part columns;              // of a matrix that is split over the tensor ranks
  // Of the elements of these layers and columns: what the rank keeps from step to step.
  Part weights, gradients, optimizer;
  Part samples;              // of a global batch
  std::vector<Part> tokens;  // of each of these
  Part rows;                 // of these tokens of a micro-batch, between the matrices (sequence parallelism)
};

RankShare ShareOf(const RunConfig& config, int rank);

}  // namespace trefoil
