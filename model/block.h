// One transformer block: residual branches (layers/residual.h) one after the other.
//
//   x -> attention -> [cross attention with the encoder's memory] -> mlp -> y            all [n, C]
//
// What is saved between forward and backward is the recomputation mode's choice: everything (NOTHING is recomputed),
// everything but the outputs of norms before branches and of activation functions (SELECTIVE), or only x (FULL).
//
// Threads: the rank's main thread.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "model/context.h"
#include "model/layers/attention.h"
#include "model/layers/mlp.h"
#include "model/layers/residual.h"
#include "model/module.h"

namespace trefoil {

// Which block of a model.
struct BlockPlace {
  std::string prefix;  // "blocks.3"
  int module = 0;
  Side side = Side::kInput;
  bool causal = true;
  int64_t window = 0;          // of keys that a query of causal attention sees; 0: there is none
  bool cross = false;          // it attends to memory, which it takes behind x
  bool passes_memory = false;  // and gives behind y, for the block behind it
  std::string relative = "";   // table of relative positions
  float around = 0;            // probability that a sample goes around a branch
};

class Block : public Module {
 public:
  struct Saved : Module::Saved {
    Tensor x, memory;  // what came in
    Residual::Saved attention_residual, cross_residual, mlp_residual;
    AttentionLayer::Saved attention, cross;
    Mlp::Saved mlp;
  };

  // Adds PREFIX.*
  static void Declare(const ModelConfig& config, const BlockPlace& place, ParameterTable* table);
  // Training on a sample, whose side has `tokens`: 6 for each parameter and token, and 12 (H D) for each pair of a query and
  // a key that it sees (half of T^2 where causal, less those outside the window). `memory`: tokens of the encoder's side.
  static double Flops(const ModelConfig& config, const BlockPlace& place, int64_t tokens, int64_t memory);
  Block(const ParameterStore& store, const ModelConfig& config, const BlockPlace& place);

  // {x} or {x, memory} -> {y} or {y, memory}
  Tensors Forward(const Context& context, const MicroBatch& batch, const Tensors& x, ForwardPass* pass) const override;
  Tensors Backward(const Context& context, const MicroBatch& batch, const Tensors& d_output,
                   std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const override;

 private:
  // Fills `saved` with everything.
  Tensor ForwardSavingAll(const Context& context, const MicroBatch& batch, const Tensor& x, const Tensor& memory,
                          Saved* saved) const;

  const BlockPlace place_;
  const Residual attention_residual_, mlp_residual_;
  const AttentionLayer attention_;
  const Mlp mlp_;
  struct Cross {
    Residual residual;
    AttentionLayer attention;
  };
  const std::optional<Cross> cross_;
};

}  // namespace trefoil
