// One transformer block, pre-norm:
//
//   x -> norm -> attention -> dropout -> + x  =  y1 -> norm -> mlp -> dropout -> + y1  =  y       all [n, C]
//
// What is saved between forward and backward is the recomputation mode's choice: everything (NOTHING is recomputed),
// everything but norm outputs and activation-function outputs (SELECTIVE), or only x (FULL).
//
// Threads: the rank's main thread.
#pragma once

#include <memory>
#include <string>

#include "model/context.h"
#include "model/layers/attention.h"
#include "model/layers/mlp.h"
#include "model/layers/norm.h"
#include "model/module.h"

namespace trefoil {

class Block : public Module {
 public:
  struct Saved : Module::Saved {
    Tensor x;  // the block's input
    Norm::Saved norm1, norm2;
    Tensor h1, h2;  // outputs of the norms
    SelfAttention::Saved attention;
    Mlp::Saved mlp;
  };

  // Adds blocks.LAYER.*
  static void Declare(const ModelConfig& config, int layer, int module, ParameterTable* table);
  // 6 per parameter, and causal attention: 6 (H D) T.
  static double FlopsPerToken(const ModelConfig& config, int64_t sequence_length);
  Block(const ParameterStore& store, const ModelConfig& config, int layer, int module);

  // x -> y [n, C]
  Tensors Forward(const Context& context, const MicroBatch& batch, const Tensors& x, ForwardPass* pass) const override;
  Tensors Backward(const Context& context, const MicroBatch& batch, const Tensors& d_output,
                   std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const override;

 private:
  // Fills `saved` with everything.
  Tensor ForwardSavingAll(const Context& context, const MicroBatch& batch, const Tensor& x, Saved* saved) const;
  // branch, dropped out, + x. Overwrites branch.
  Tensor AddResidual(const Context& context, const MicroBatch& batch, const Tensor& x, const Tensor& branch,
                     const std::string& site) const;
  // The gradient of a branch from that of its sum with the residual: dy itself where nothing is dropped.
  Tensor BranchGradient(const Context& context, const MicroBatch& batch, const Tensor& dy,
                        const std::string& site) const;

  const std::string prefix_;
  const int module_;
  const float dropout_;
  const Norm norm1_, norm2_;
  const SelfAttention attention_;
  const Mlp mlp_;
};

}  // namespace trefoil
