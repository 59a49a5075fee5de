// Tokens to vectors: the token table split by rows of the vocabulary over the tensor ranks, plus learned positions and
// dropout where the recipe has them.
//
//   ids [N] -> rows of this rank's part of the table, zeros elsewhere [N, C] -> sum over ranks -> x [n, C]
#pragma once

#include "model/context.h"
#include "model/families/recipe.h"
#include "model/module.h"
#include "parallel/parameter_store.h"

namespace trefoil {

class TokenEmbedding : public Module {
 public:
  // Adds embedding.token.weight (tied to module `head` where the recipe says so) and embedding.position.weight.
  static void Declare(const ModelConfig& config, int module, int head, ParameterTable* table);
  TokenEmbedding(const ParameterStore& store, const ModelConfig& config, int module);

  // {} -> x [n, C]
  Tensors Forward(const Context& context, const MicroBatch& batch, const Tensors& none,
                  ForwardPass* pass) const override;
  Tensors Backward(const Context& context, const MicroBatch& batch, const Tensors& dx,
                   std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const override;

 private:
  const ModelConfig config_;
  const int module_;
  ParameterView table_, positions_;  // positions undefined where not learned
};

}  // namespace trefoil
