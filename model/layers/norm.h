// LayerNorm or RMSNorm over the hidden dim of this rank's tokens; the weights are whole on every rank.
#pragma once

#include <string>

#include "model/context.h"
#include "model/families/recipe.h"
#include "parallel/parameter_store.h"

namespace trefoil {

// Whether what the last block gives is normed before the head: where norms stand before the branches.
bool NormBeforeHead(const ModelConfig& config);

class Norm {
 public:
  // What the backward needs; x is shared with whoever else keeps it.
  struct Saved {
    Tensor x, mean, rstd;  // [n, C], [n], [n]; mean of LayerNorm only
  };

  // Adds PREFIX.weight and, for LayerNorm, PREFIX.bias. all_rows: every tensor rank norms all rows, not its tokens only.
  static void Declare(const ModelConfig& config, const std::string& prefix, int module, ParameterTable* table,
                      bool all_rows = false);
  Norm(const ParameterStore& store, const ModelConfig& config, const std::string& prefix);

  // x, result: [n, C].
  Tensor Forward(const Context& context, const Tensor& x, Saved* saved) const;
  // d_residual + the gradient through the norm, in a new tensor (queued weight gradients may still want d_residual);
  // d_residual may be undefined.
  Tensor Backward(const Context& context, const Tensor& dy, const Saved& saved, const Tensor& d_residual) const;

 private:
  const Recipe::Norm kind_;
  const float epsilon_;
  ParameterView weight_, bias_;
};

}  // namespace trefoil
