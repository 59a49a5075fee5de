#include "model/layers/attention.h"

#include <cmath>

#include "model/families/recipe.h"
#include "runtime/random.h"

namespace trefoil {
namespace {

LinearShape QkvShape(const ModelConfig& config, const std::string& prefix) {
  const int64_t kv = int64_t{config.kv_heads()} * config.head_dim();
  return {.prefixes = {prefix + ".q", prefix + ".k", prefix + ".v"},
          .outputs = {int64_t{config.heads()} * config.head_dim(), kv, kv},
          .inputs = config.hidden(),
          .bias = RecipeOf(config).qkv_bias,
          .deviation = config.initial_deviation(),
          .split = Split::kColumn};
}

LinearShape OutputShape(const ModelConfig& config, const std::string& prefix) {
  return {.prefixes = {prefix + ".output"},
          .outputs = {config.hidden()},
          .inputs = int64_t{config.heads()} * config.head_dim(),
          .bias = RecipeOf(config).bias,
          .deviation = config.initial_deviation() / std::sqrt(2.0f * static_cast<float>(config.layers())),
          .split = Split::kRow};
}

}  // namespace

void SelfAttention::Declare(const ModelConfig& config, const std::string& prefix, int module, ParameterTable* table) {
  DeclareLinear(QkvShape(config, prefix), module, table);
  DeclareLinear(OutputShape(config, prefix), module, table);
}

SelfAttention::SelfAttention(const ParameterStore& store, const ModelConfig& config, const std::string& prefix)
    : config_(config),
      prefix_(prefix),
      rotary_(RecipeOf(config).rotary),
      qkv_(store, QkvShape(config, prefix)),
      output_(store, OutputShape(config, prefix)) {}

AttentionShape SelfAttention::ShapeOf(const Context& context, const MicroBatch& batch) const {
  return {.batch = batch.samples,
          .tokens = batch.tokens,
          .heads = config_.heads() / context.tensor.size(),
          .kv_heads = config_.kv_heads() / context.tensor.size(),
          .head_dim = config_.head_dim()};
}

AttentionDropout SelfAttention::DropoutOf(const Context& context, const MicroBatch& batch) const {
  return {.probability = batch.training ? config_.dropout() : 0,
          .key = RandomKey(context.dropout_seed, "dropout/" + prefix_ + ".weights"),
          .first_sequence = batch.first_sample,
          .first_head = int64_t{config_.heads()} / context.tensor.size() * context.tensor.rank(),
          .global_heads = config_.heads(),
          .global_queries = batch.tokens,
          .global_keys = batch.tokens};
}

void SelfAttention::Turn(const Context& context, const AttentionShape& shape, const Tensor& qkv, bool inverse) const {
  // Queries and keys, side by side; not the values.
  Rotary(context.device, FusedHeads(qkv, shape).q, shape.heads + shape.kv_heads, shape.head_dim, shape.tokens,
         config_.rope_theta(), inverse);
}

Tensor SelfAttention::Forward(const Context& context, const MicroBatch& batch, const Tensor& h, Saved* saved) const {
  const AttentionShape shape = ShapeOf(context, batch);
  saved->qkv = qkv_.Forward(context, h);
  if (rotary_) Turn(context, shape, saved->qkv, /*inverse=*/false);
  saved->out = context.New({batch.rows(), shape.heads * shape.head_dim});
  saved->log_sum_exp = context.NewFloat({shape.batch, shape.heads, batch.tokens});
  Attention(context.device, FusedHeads(saved->qkv, shape), shape, DropoutOf(context, batch), saved->out,
            saved->log_sum_exp);
  return output_.Forward(context, saved->out);
}

Tensor SelfAttention::Backward(const Context& context, const MicroBatch& batch, const Tensor& dy, const Tensor& h,
                               const Saved& saved, WeightGradients& weights) const {
  const AttentionShape shape = ShapeOf(context, batch);
  const Tensor d_out = output_.Backward(context, dy, saved.out, weights);
  const Tensor d_qkv = context.New(saved.qkv.shape());
  AttentionBackward(context.device, d_out, FusedHeads(saved.qkv, shape), saved.out, saved.log_sum_exp, shape,
                    DropoutOf(context, batch), FusedHeads(d_qkv, shape));
  if (rotary_) Turn(context, shape, d_qkv, /*inverse=*/true);
  return qkv_.Backward(context, d_qkv, h, weights);
}

}  // namespace trefoil
