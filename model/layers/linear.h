// A linear layer y = x W^T + b, split over the tensor ranks (Shoeybi et al. 2019, section 3; with sequence parallelism
// Korthikanti et al. 2022, section 4.2.2).
//
//   column: W is split by rows (outputs).  x [n, in] -> gather tokens -> y [N, out/t]
//   row:    W is split by columns (inputs). x [N, in/t] -> partial y [N, out] -> sum over ranks -> y [n, out], + b
//
// With low-rank adapters their product is added to each y, and its gradients to dx.
//
// With context.float8 the three products (y, dx, dW) are of fp8 operands; bias and sums over ranks stay as they are.
//
// Weights have shape [out, in]. A column layer may be several parameters stored back to back, used as one matrix.
#pragma once

#include <string>
#include <vector>

#include "model/context.h"
#include "model/layers/float8.h"
#include "model/layers/low_rank.h"
#include "model/model.pb.h"
#include "parallel/parameter_store.h"

namespace trefoil {

enum class Split { kColumn, kRow };

// Adds PREFIX.weight of the named prefixes [out_i, in], then their biases, each kind fused into one.
struct LinearShape {
  std::vector<std::string> prefixes;  // one for a row layer
  std::vector<int64_t> outputs;       // global, one per prefix
  int64_t inputs = 0;
  bool bias = false;
  std::vector<float> deviations;      // of the initial weights, one per prefix
  Split split = Split::kColumn;
  // Of low-rank adapters (model/layers/low_rank.h): their rank, and which prefixes have one.
  int64_t rank = 0;
  float adapter_scale = 0;
  std::vector<bool> adapted = {};
};
void DeclareLinear(const LinearShape& shape, int module, ParameterTable* table);
// The shape with the adapters that model.lora wants beside its prefixes, which are these.
LinearShape WithAdapters(const ModelConfig& config, const std::vector<LoraConfig::Target>& prefixes, LinearShape shape);

class Linear {
 public:
  Linear(const ParameterStore& store, const LinearShape& shape);

  Tensor Forward(const Context& context, const Tensor& x) const;
  // activation(y) of a column layer; y goes to `before`.
  Tensor ForwardActivated(const Context& context, Activation activation, const Tensor& x, Tensor* before) const;

  // dx, from dy and the x of the forward; the weights' gradients go through `weights`.
  Tensor Backward(const Context& context, const Tensor& dy, const Tensor& x, WeightGradients& weights) const;
  // The backward of two layers with an activation function between them, a column layer `previous` and this, a row
  // layer: before = previous(previous_x), x = activation(before), y = this(x). Returns the gradient of previous_x.
  Tensor BackwardActivated(const Context& context, Activation activation, const Tensor& dy, const Tensor& x,
                           const Tensor& before, const Linear& previous, const Tensor& previous_x,
                           WeightGradients& weights) const;

 private:
  // bias: bias_, or undefined to leave the bias's gradient out.
  Tensor Backward(const Context& context, const Tensor& dy, const Tensor& x, const ParameterView& bias,
                  WeightGradients& weights) const;
  // y = x W^T + bias, and its gradients, from dy for this rank's tokens and for all. With float8 the latter comes
  // quantized too, from OutputGradient, which returns nothing otherwise.
  void Multiply(const Context& context, const Tensor& all_x, const Tensor& bias, const Tensor& y) const;
  // Whether a product may be made together with what stands next to it (runtime/ops.h).
  bool fuses(const Context& context) const { return !context.float8 && adapters_.empty(); }
  Float8Operand OutputGradient(const Context& context, const Tensor& all_dy) const;
  void InputGradient(const Context& context, const Tensor& all_dy, const Float8Operand& all_dy8,
                     const Tensor& dx) const;
  // What waits is this rank's tokens, gathered when it is used: x with `gathers_x`, and dy for all where the backward
  // comes in two.
  void AddWeightGradients(const Context& context, const Tensor& dy, const Tensor& all_dy, const Float8Operand& all_dy8,
                          const Tensor& x, bool gathers_x, const ParameterView& bias, WeightGradients& weights) const;

  const Split split_;
  ParameterView weight_, bias_;  // bias undefined where there is none
  Adapters adapters_;
};

}  // namespace trefoil
