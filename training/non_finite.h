// After a step whose loss or gradient norm is not finite: which tensor was the first that was not.
//
//   const std::string where = FindNonFinite(worker, [&] { RunBatches(...); });
//   // "weight blocks.1.mlp.down.weight on rank 2 on node7"
//   // "output of blocks.3.attention, micro-batch 0, on rank 5 on node7"
//
// "First" is in the order of the model, not of the clock: weights and activations from the embedding to the head, then
// gradients of activations from the head to the embedding, then gradients of weights in the same order. Over all ranks
// of the job the earliest is named; of ranks with the same, the lowest. Gradients of weights are looked at when they are
// added up: their rank is one that has the sum. A weight comes before the output that it spoils, so that a damaged weight is named
// and not its layer.
//
// A step that is finite pays nothing for it: the forward and backward are done once more, and each tensor looked at.
//
// Threads: the rank's main thread. Every rank of the job calls it, and gets the same text.
#pragma once

#include <functional>
#include <string>

#include "training/worker.h"

namespace trefoil {

// `compute` does the forward and backward of the step again, unrecorded. Gradients are zero on return, parameters as they
// were. If all is finite this time, the text says so: then a machine computed wrong, not the model.
std::string FindNonFinite(Worker& worker, const std::function<void()>& compute);

}  // namespace trefoil
