// Causal self-attention with H query and K key/value heads, heads split over the tensor ranks.
//
//   h [n, C] -> qkv [N, (H + 2K)/t * D] -> rotary (Llama) -> attention [N, H/t * D] -> output y [n, C]
#pragma once

#include <string>

#include "model/context.h"
#include "model/layers/linear.h"
#include "model/model.pb.h"

namespace trefoil {

class SelfAttention {
 public:
  struct Saved {
    Tensor qkv, out, log_sum_exp;
  };

  static void Declare(const ModelConfig& config, const std::string& prefix, int module, ParameterTable* table);
  SelfAttention(const ParameterStore& store, const ModelConfig& config, const std::string& prefix);

  Tensor Forward(const Context& context, const MicroBatch& batch, const Tensor& h, Saved* saved) const;
  // dh; h is the forward's input.
  Tensor Backward(const Context& context, const MicroBatch& batch, const Tensor& dy, const Tensor& h,
                  const Saved& saved, WeightGradients& weights) const;

 private:
  AttentionShape ShapeOf(const Context& context, const MicroBatch& batch) const;
  // Rotary positions, in place.
  void Turn(const Context& context, const AttentionShape& shape, const Tensor& qkv, bool inverse) const;
  AttentionDropout DropoutOf(const Context& context, const MicroBatch& batch) const;

  const ModelConfig config_;
  const std::string prefix_;
  const bool rotary_;
  const Linear qkv_, output_;
};

}  // namespace trefoil
