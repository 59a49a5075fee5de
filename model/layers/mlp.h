// The feed-forward part of a block, feed-forward columns split over the tensor ranks.
//
//   plain: h [n, C] -> up       f [N, F/t]  -> act(f)         a [N, F/t] -> down y [n, C]
//   gated: h [n, C] -> gate, up f [N, 2F/t] -> act(gate) * up a [N, F/t] -> down y [n, C]
#pragma once

#include <string>

#include "model/context.h"
#include "model/families/recipe.h"
#include "model/layers/linear.h"

namespace trefoil {

class Mlp {
 public:
  struct Saved {
    Tensor f, a;  // a may be dropped: the backward computes it again
  };

  static void Declare(const ModelConfig& config, const std::string& prefix, int module, ParameterTable* table);
  Mlp(const ParameterStore& store, const ModelConfig& config, const std::string& prefix);

  Tensor Forward(const Context& context, const Tensor& h, Saved* saved) const;
  // dh; h is the forward's input.
  Tensor Backward(const Context& context, const Tensor& dy, const Tensor& h, const Saved& saved,
                  WeightGradients& weights) const;

 private:
  Tensor Activate(const Context& context, const Tensor& f) const;

  const Activation activation_;
  const bool gated_;
  const Linear up_, down_;
};

}  // namespace trefoil
