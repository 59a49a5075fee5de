// Tokens to vectors: the token table split by rows of the vocabulary over the tensor ranks, plus positions, segments, a
// norm and dropout where the recipe has them.
//
//   ids [N] -> rows of this rank's part of the table, zeros elsewhere [N, C] -> sum over ranks [n, C] -> times sqrt(C)
//   -> + positions -> + segments -> norm -> drop -> x [n, C]
#pragma once

#include <optional>

#include "model/context.h"
#include "model/families/recipe.h"
#include "model/layers/norm.h"
#include "model/module.h"
#include "parallel/parameter_store.h"

namespace trefoil {

class TokenEmbedding : public Module {
 public:
  struct Saved : Module::Saved {
    Norm::Saved norm;
  };
  // Adds embedding.token.weight, used by the modules `tied` as well, and embedding.{position,segment}.weight and
  // embedding.norm.* where the recipe says so.
  static void Declare(const ModelConfig& config, int module, const std::vector<int>& tied, ParameterTable* table);
  // Of the tokens that go in, or of those that a decoder reads.
  TokenEmbedding(const ParameterStore& store, const ModelConfig& config, int module, Side side = Side::kInput);

  // {} -> x [n, C]
  Tensors Forward(const Context& context, const MicroBatch& batch, const Tensors& none,
                  ForwardPass* pass) const override;
  Tensors Backward(const Context& context, const MicroBatch& batch, const Tensors& dx,
                   std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const override;

 private:
  DropoutMask MaskOfSum(const Context& context, const MicroBatch& batch) const;

  const ModelConfig config_;
  const int module_;
  const Side side_;
  const std::string name_;  // for reports and dropout
  const ParameterView table_;
  ParameterView positions_, segments_;  // undefined where there are none
  std::optional<Norm> norm_;
};

}  // namespace trefoil
