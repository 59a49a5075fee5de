// Attention with H query and K key/value heads, heads split over the tensor ranks: of a sequence with itself, or of a
// decoder's with the memory that its encoder made.
//
//   self:  h [n, C] -> qkv [N, (H + 2K)/t * D] -> [norm] -> [rotary] -> attention [N, H/t * D] -> output y [n, C]
//   cross: h [n, C] -> q [N, H/t * D], memory [m, C] -> kv [M, 2K/t * D]   -> attention      -> output y [n, C]
//
// Where ranks share each sample's tokens (Context::token_ranks) self-attention goes round a ring (ring_attention.h), or
// is made of some heads and all tokens (head_exchange.h).
//
// Behind tokens whose keys and values are kept (model/key_value_cache.h) self-attention is of each text by itself: the
// keys and values of its new tokens are added to what is kept of it, and their queries see all of that.
//
// Keys behind a sample's length (Sequences::lengths) are not seen. With relative positions a table [buckets, H] that all
// layers of a side share is added to the scores, by the bucket of the distance (model/relative_positions.h).
#pragma once

#include <optional>
#include <string>

#include "model/context.h"
#include "model/layers/linear.h"
#include "model/layers/qk_norm.h"
#include "model/layers/ring_attention.h"
#include "model/model.pb.h"

namespace trefoil {

struct AttentionPlace {
  std::string prefix;             // "blocks.3.attention"
  Side side = Side::kInput;       // of the queries; memory is of the input
  bool causal = true;
  int64_t window = 0;             // of keys that a query sees, its own with them; 0: all before it
  bool cross = false;
  std::string relative = "";      // the table's name; empty: none
};

class AttentionLayer {
 public:
  struct Saved {
    QkNorm::Saved norm;
    Tensor q, kv, out, log_sum_exp;  // q: all three, of self-attention; of the heads and tokens that attended here
  };

  // Not the table.
  static void Declare(const ModelConfig& config, const AttentionPlace& place, int module, ParameterTable* table);
  AttentionLayer(const ParameterStore& store, const ModelConfig& config, const AttentionPlace& place);

  // `memory`: of cross attention, else undefined.
  Tensor Forward(const Context& context, const MicroBatch& batch, const Tensor& h, const Tensor& memory,
                 Saved* saved) const;
  // dh, and with cross attention the memory's gradient; h and memory are the forward's.
  Tensor Backward(const Context& context, const MicroBatch& batch, const Tensor& dy, const Tensor& h,
                  const Tensor& memory, const Saved& saved, WeightGradients& weights, Tensor* d_memory) const;

 private:
  // With this rank's tokens.
  AttentionShape ShapeOf(const Context& context, const MicroBatch& batch) const;
  // With the tokens and heads that attend here.
  AttentionShape AttendingShape(const Context& context, const MicroBatch& batch) const;
  // Of tokens behind others: out, from the fused queries, keys and values of all texts' new tokens.
  Tensor AttendBehind(const Context& context, const MicroBatch& batch, const Tensor& qkv) const;
  RingPlace Ring(const Context& context, const MicroBatch& batch) const;
  AttentionHeads HeadsOf(const AttentionShape& shape, const Tensor& q, const Tensor& kv) const;
  // From what the projection gives to queries and keys that attend, in place: norm and rotary positions; and back.
  void Prepare(const Context& context, const AttentionShape& shape, const Tensor& qkv, QkNorm::Saved* saved) const;
  void PrepareBackward(const Context& context, const AttentionShape& shape, const QkNorm::Saved& saved,
                       const Tensor& d_qkv) const;
  void Turn(const Context& context, const AttentionShape& shape, const Tensor& qkv, bool inverse) const;
  // [distances, H/t]; undefined without relative positions.
  Tensor Bias(const Context& context, const MicroBatch& batch) const;
  AttentionDropout DropoutOf(const Context& context, const MicroBatch& batch) const;

  const ModelConfig config_;
  const AttentionPlace place_;
  const std::optional<RotaryFrequencies> rotary_;
  const std::optional<QkNorm> norm_;
  const Linear q_;                  // queries, keys and values of self-attention
  const std::optional<Linear> kv_;  // of cross attention
  const Linear output_;
  ParameterView relative_;
};

// Declares the table of relative positions of a side, used by the layers of the modules [first, last].
void DeclareRelativePositions(const ModelConfig& config, const std::string& name, int first, int last,
                              ParameterTable* table);

}  // namespace trefoil
