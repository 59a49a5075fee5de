// A step's forward and backward computed twice, and compared to the bit: what a processor, a memory or a message has made
// wrong in one of the two shows, also where no rank holds a second copy of it (training/replica_check.h): a gradient
// before or after its sum over ranks, an activation, what travels between stages. Nothing random is in a step, whose
// dropout is a function of the sample, so all bits must agree.
//
//   ComputedTwice twice = ComputeTwice(worker, [&] { RunBatches(...); worker.reducer.Finish(); return losses; });
//   if (!twice.difference.empty()) ...   // "gradient of blocks.1.mlp.down.weight on rank 2 on node7"
//
// A checksum (training/checksum.h) is made of each output and input gradient of a layer, of each bucket's gradients as
// this rank has added them up, after each sum over ranks, and of the losses. Named is what differs first, in the order
// that one follows from the other: outputs from the embedding to the head, input gradients from the head to the embedding,
// a rank's own gradients, their sums. Several ranks are named where as early a thing differs on all of them: an output
// that tensor ranks add up from partial products, say, one of which was wrong.
//
// Not found is what goes wrong in the same way both times, and what happens in other steps or to weights and moments, of
// which a rank has the only copy, between two steps or in their update.
//
// Cost: the step's forward, backward and reduction once more, and reading those tensors twice; no memory but numbers on
// the host. On GPUs they are read through the host's memory.
//
// Threads: the rank's main thread. Every rank of the job calls it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "training/worker.h"

namespace trefoil {

struct ComputedTwice {
  std::vector<Tensor> losses;  // of the second time, as are the gradients
  std::string difference;      // empty: there is none; the same on every rank
};

// `compute` does the forward and backward of the step, unrecorded, and the reduction, and returns the losses.
ComputedTwice ComputeTwice(Worker& worker, const std::function<std::vector<Tensor>()>& compute);

}  // namespace trefoil
