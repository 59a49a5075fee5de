// The end of a network that says something of each sample, or of chosen tokens of it, other than a token: its class, a
// number, or the pixels of patches. Small: every tensor rank computes all of it.
//
//   x [n, C] -> [norm] -> gather tokens [N, C] -> pool or choose [M, C] -> [linear -> tanh] -> drop -> linear [M, K]
//   -> cross-entropy with the target class, or mean squared error of K values
#pragma once

#include <optional>

#include "model/layers/norm.h"
#include "model/layers/whole_linear.h"
#include "model/module.h"

namespace trefoil {

class SampleHead : public Module {
 public:
  struct Saved : Module::Saved {
    Norm::Saved norm;
    Tensor h, before, dropped;  // [M, C]: chosen, before tanh, behind dropout
    Tensor d_output;            // [M, K]
  };
  // Adds head.norm, where norms stand before branches, head.pooler.*, where the recipe has it, and head.output.*.
  // `config`: of the blocks before it.
  static void Declare(const ModelConfig& config, int module, ParameterTable* table);
  // Training on a sample.
  static double Flops(const ModelConfig& config);
  SampleHead(const ParameterStore& store, const ModelConfig& config, int module);

  // x [n, C] -> {}, and the losses [M]: kTokenLoss; of classes kCorrect as well.
  Tensors Forward(const Context& context, const MicroBatch& batch, const Tensors& x, ForwardPass* pass) const override;
  Tensors Backward(const Context& context, const MicroBatch& batch, const Tensors& none,
                   std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const override;
  // What it says of each target: logits of classes, or values; float32 [M, K].
  Tensor Output(const Context& context, const MicroBatch& batch, const Tensor& x) const;

 private:
  Tensor Output(const Context& context, const MicroBatch& batch, const Tensor& x, Saved* saved) const;
  DropoutMask MaskOfHead(const Context& context, const MicroBatch& batch) const;

  const ModelConfig config_;
  const int module_;
  const std::optional<Norm> norm_;
  const std::optional<WholeLinear> pooler_;
  const WholeLinear output_;
};

}  // namespace trefoil
