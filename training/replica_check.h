// Whether the copies of parameters that several ranks hold are still equal, bit by bit. Each rank updates its own copy by
// its own arithmetic on the same sums, so that they stay equal until a memory or a processor errs; nothing else notices,
// as the loss stays plausible and a checkpoint holds one copy only.
//
// What is held more than once:
//   over data    working weights, but with parallel.zero WEIGHTS; with NONE master weights and moments too
//   over copies  with parallel.replicas, of what is split: the same share of each
//   over tensor  parameters that are not split (norms, some biases, positions): all of this rank's share
//   over tied    the tied matrix on the first and the last stage: all of this rank's share
//
// Checksums of the copies (training/checksum.h) are compared with one AllReduceMax a group; only a difference costs more.
// What was wrong before it was copied, or is of one rank only, has no second copy: training/computed_twice.h.
//
// Threads: the rank's main thread, between steps. Every rank of the job calls it.
#pragma once

#include "runtime/status.h"
#include "training/worker.h"

namespace trefoil {

// OK, or a DataLoss error with the first parameter that differs, and the ranks and hosts whose copies are in the minority
// (of two copies: both). The same Status on every rank.
absl::Status CompareReplicas(Worker& worker);

}  // namespace trefoil
