// A linear layer y = x W^T + b that every tensor rank holds whole: small ones, at the ends of a network. It works on
// whatever rows it is given; where these are all of them on every rank, so is its gradient.
#pragma once

#include <string>

#include "model/context.h"
#include "parallel/parameter_store.h"

namespace trefoil {

struct WholeLinearShape {
  std::string prefix;
  int64_t outputs = 0, inputs = 0;
  bool bias = true;
  float deviation = 0;      // of the initial weights
  bool all_rows = true;     // else this rank's tokens only: gradients are then partial sums
};

class WholeLinear {
 public:
  // Adds PREFIX.weight [outputs, inputs] and PREFIX.bias.
  static void Declare(const WholeLinearShape& shape, int module, ParameterTable* table);
  WholeLinear(const ParameterStore& store, const WholeLinearShape& shape);

  // In the working dtype, or float32.
  Tensor Forward(const Context& context, const Tensor& x, bool to_float = false) const;
  Tensor Backward(const Context& context, const Tensor& dy, const Tensor& x, WeightGradients& weights) const;
  // Without dx.
  void AddGradients(const Context& context, const Tensor& dy, const Tensor& x, WeightGradients& weights) const;

 private:
  ParameterView weight_, bias_;
};

}  // namespace trefoil
