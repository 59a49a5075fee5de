// How the pipeline drives a model that it cannot see: one stage's share of the network, in chunks.
//
// Threads: the rank's main thread.
#pragma once

#include <vector>

#include "runtime/tensor.h"

namespace trefoil {

// What passes between two virtual stages, or two modules: tensors of whatever number and shapes both ends agree on;
// none before the first and behind the last.
using Tensors = std::vector<Tensor>;

class Stage {
 public:
  virtual ~Stage() = default;
  // Tensors without values, for a message to arrive in: what comes into a chunk from the virtual stage before it, and
  // the gradients of what it passes on.
  virtual Tensors NewInput(int chunk) = 0;
  virtual Tensors NewOutputGradient(int chunk) = 0;
  // Runs a chunk on a micro-batch and keeps what its backward needs. Where the chunk begins the model it has no input
  // and reads the batch itself; where it ends the model it has no result and keeps the losses. `divided`: the backward
  // will come as BackwardInput and BackwardWeight.
  virtual Tensors Forward(int micro_batch, int chunk, const Tensors& input, bool divided) = 0;
  // The gradients of the chunk's input, from those of its output. Adds weight gradients on the way, while their
  // operands are in cache.
  virtual Tensors Backward(int micro_batch, int chunk, const Tensors& d_output) = 0;
  // The same in two: BackwardInput returns the gradients and keeps what BackwardWeight needs to add weight gradients.
  virtual Tensors BackwardInput(int micro_batch, int chunk, const Tensors& d_output) = 0;
  virtual void BackwardWeight(int micro_batch, int chunk) = 0;
};

}  // namespace trefoil
