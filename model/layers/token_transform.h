// What stands before the head of an encoder's tokens: the tokens that have targets are chosen, and each goes through a
// linear layer, the activation and a norm (Devlin et al. 2019, as in their code).
//
//   x [n, C] -> [norm] -> gather tokens [N, C] -> choose [M, C] -> linear -> act -> norm [M, C], on every tensor rank
#pragma once

#include "model/layers/norm.h"
#include "model/layers/whole_linear.h"
#include "model/module.h"

namespace trefoil {

class TokenTransform : public Module {
 public:
  struct Saved : Module::Saved {
    Norm::Saved first, last;
    Tensor h, before;  // what the linear layer is given and gives
  };
  // Adds head.norm, where norms stand before branches, and head.transform.*, head.transform_norm.*.
  static void Declare(const ModelConfig& config, int module, ParameterTable* table);
  // Training on a sample.
  static double Flops(const ModelConfig& config);
  TokenTransform(const ParameterStore& store, const ModelConfig& config, int module);

  Tensors Forward(const Context& context, const MicroBatch& batch, const Tensors& x, ForwardPass* pass) const override;
  Tensors Backward(const Context& context, const MicroBatch& batch, const Tensors& dy,
                   std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const override;

 private:
  const ModelConfig config_;
  const int module_;
  const Activation activation_;
  const std::optional<Norm> first_;
  const WholeLinear linear_;
  const Norm last_;
};

}  // namespace trefoil
