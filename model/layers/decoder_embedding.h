// Between the encoder and the decoder: the encoder's last norm, where norms stand before branches, and the embedding of
// the tokens that the decoder reads, with the same table as the encoder's.
//
//   x [n, C] -> [norm] -> memory [n, C];  decoder's tokens -> y [m, C]
#pragma once

#include <optional>

#include "model/layers/embedding.h"
#include "model/layers/norm.h"
#include "model/module.h"

namespace trefoil {

class DecoderEmbedding : public Module {
 public:
  struct Saved : Module::Saved {
    Norm::Saved norm;
    std::unique_ptr<Module::Saved> tokens;
  };
  // Adds encoder.norm.*; the table is TokenEmbedding's.
  static void Declare(const ModelConfig& config, int module, ParameterTable* table);
  DecoderEmbedding(const ParameterStore& store, const ModelConfig& config, int module);

  // {x} -> {y, memory}
  Tensors Forward(const Context& context, const MicroBatch& batch, const Tensors& x, ForwardPass* pass) const override;
  Tensors Backward(const Context& context, const MicroBatch& batch, const Tensors& dy,
                   std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const override;

 private:
  const std::optional<Norm> norm_;
  const TokenEmbedding tokens_;
};

}  // namespace trefoil
