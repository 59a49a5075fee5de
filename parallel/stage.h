// How the pipeline drives a model that it cannot see: one stage's share of the network, in chunks.
//
// Threads: the rank's main thread.
#pragma once

#include "runtime/tensor.h"

namespace trefoil {

class Stage {
 public:
  virtual ~Stage() = default;
  // An undefined tensor of the shape and dtype that stages pass to each other, for a message to arrive in.
  virtual Tensor NewActivation() = 0;
  // Runs a chunk on a micro-batch and keeps what its backward needs. `input` is undefined where the chunk
  // begins the model and reads the tokens itself; the result is undefined where it ends it and keeps the loss.
  virtual Tensor Forward(int micro_batch, int chunk, const Tensor& input) = 0;
  // The gradient of the chunk's input, from that of its output; undefined as in Forward. Adds weight gradients on the way,
  // while their operands are in cache.
  virtual Tensor Backward(int micro_batch, int chunk, const Tensor& d_output) = 0;
  // The same in two: BackwardInput returns the gradient and keeps what BackwardWeight needs to add weight gradients.
  virtual Tensor BackwardInput(int micro_batch, int chunk, const Tensor& d_output) = 0;
  virtual void BackwardWeight(int micro_batch, int chunk) = 0;
};

}  // namespace trefoil
