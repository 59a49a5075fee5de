// Tokens to vectors: the token table split by rows of the vocabulary over the tensor ranks, plus learned positions and
// dropout where the recipe has them.
//
//   ids [N] -> rows of this rank's part of the table, zeros elsewhere [N, C] -> sum over ranks -> x [n, C]
#pragma once

#include "model/context.h"
#include "model/families/recipe.h"
#include "parallel/parameter_store.h"

namespace trefoil {

class TokenEmbedding {
 public:
  // Adds embedding.token.weight (tied to home `head` where the recipe says so) and embedding.position.weight.
  static void Declare(const ModelConfig& config, int home, int head, ParameterTable* table);
  TokenEmbedding(const ParameterStore& store, const ModelConfig& config);

  // [n, C]
  Tensor Forward(const Context& context, const MicroBatch& batch) const;
  void Backward(const Context& context, const MicroBatch& batch, const Tensor& dx, WeightGradients& weights) const;

 private:
  const ModelConfig config_;
  Tensor table_, d_table_, positions_, d_positions_;  // positions undefined where not learned
};

}  // namespace trefoil
