// RMSNorm of each head of queries and keys by itself, where a network has it (model.qk_norm; Dehghani et al. 2023): before
// positions are turned into them, and with one weight [D] for all heads of queries and one for those of keys. Each tensor
// rank norms its heads, so that the weights' gradients are sums over the ranks' parts.
//
//   qkv [N, (H + 2K)/t * D] -> its columns of queries and keys, normed in place
#pragma once

#include <string>

#include "model/context.h"
#include "parallel/parameter_store.h"

namespace trefoil {

class QkNorm {
 public:
  // Queries and keys as they were, [N, (H + K)/t * D], and their [N, H/t] and [N, K/t].
  struct Saved {
    Tensor before, q_rstd, k_rstd;
  };

  // Adds PREFIX.q_norm.weight and PREFIX.k_norm.weight, [head_dim] each.
  static void Declare(int64_t head_dim, const std::string& prefix, int module, ParameterTable* table);
  QkNorm(const ParameterStore& store, float epsilon, const std::string& prefix);

  // shape: whose heads lie in qkv.
  void Forward(const Context& context, const AttentionShape& shape, const Tensor& qkv, Saved* saved) const;
  // Turns the gradients of the normed queries and keys into those of what they were, in place.
  void Backward(const Context& context, const AttentionShape& shape, const Saved& saved, const Tensor& d_qkv) const;

 private:
  const float epsilon_;
  ParameterView q_, k_;
};

}  // namespace trefoil
