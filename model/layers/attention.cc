#include "model/layers/attention.h"

#include "model/families/recipe.h"
#include "model/key_value_cache.h"
#include "model/layers/head_exchange.h"
#include "model/relative_positions.h"
#include "model/rope_scaling.h"
#include "model/token_shares.h"
#include "runtime/random.h"

namespace trefoil {
namespace {

int64_t Width(const ModelConfig& config) { return int64_t{config.heads()} * config.head_dim(); }
int64_t KvWidth(const ModelConfig& config) { return int64_t{config.kv_heads()} * config.head_dim(); }

bool GoesRound(const Context& context) {
  return context.splits_samples() && context.context_method == ParallelConfig::RING;
}
bool ExchangesHeads(const Context& context) {
  return context.splits_samples() && context.context_method == ParallelConfig::ALL_TO_ALL;
}

// Columns of queries, keys and values, and of what comes of them.
std::vector<int64_t> InputColumns(const AttentionShape& s) {
  return {s.heads * s.head_dim, s.kv_heads * s.head_dim, s.kv_heads * s.head_dim};
}
std::vector<int64_t> OutputColumns(const AttentionShape& s) { return {s.heads * s.head_dim}; }

LinearShape QueryShape(const ModelConfig& config, const AttentionPlace& place) {
  const Recipe recipe = RecipeOf(config);
  const int64_t inputs = config.hidden();
  // What scores are not divided by, queries begin without.
  const float of_keys = InitialDeviation(config, inputs, KvWidth(config));
  const float of_queries =
      InitialDeviation(config, recipe.scaled_scores ? inputs : inputs * config.head_dim(), Width(config));
  LinearShape shape = {.prefixes = {place.prefix + ".q"},
                       .outputs = {Width(config)},
                       .inputs = inputs,
                       .bias = recipe.qkv_bias,
                       .deviations = {of_queries},
                       .split = Split::kColumn};
  if (place.cross) return WithAdapters(config, {LoraConfig::QUERY}, shape);
  for (const char* name : {".k", ".v"}) {
    shape.prefixes.push_back(place.prefix + name);
    shape.outputs.push_back(KvWidth(config));
    shape.deviations.push_back(of_keys);
  }
  return WithAdapters(config, {LoraConfig::QUERY, LoraConfig::KEY, LoraConfig::VALUE}, shape);
}

LinearShape MemoryShape(const ModelConfig& config, const AttentionPlace& place) {
  const float deviation = InitialDeviation(config, config.hidden(), KvWidth(config));
  return WithAdapters(config, {LoraConfig::KEY, LoraConfig::VALUE},
                      {.prefixes = {place.prefix + ".k", place.prefix + ".v"},
                       .outputs = {KvWidth(config), KvWidth(config)},
                       .inputs = config.hidden(),
                       .bias = RecipeOf(config).qkv_bias,
                       .deviations = {deviation, deviation},
                       .split = Split::kColumn});
}

LinearShape OutputShape(const ModelConfig& config, const AttentionPlace& place) {
  return WithAdapters(config, {LoraConfig::OUTPUT},
                      {.prefixes = {place.prefix + ".output"},
                       .outputs = {config.hidden()},
                       .inputs = Width(config),
                       .bias = RecipeOf(config).attention_output_bias,
                       .deviations = {InitialDeviation(config, Width(config), config.hidden(), /*residual=*/true)},
                       .split = Split::kRow});
}

}  // namespace

void DeclareRelativePositions(const ModelConfig& config, const std::string& name, int first, int last,
                              ParameterTable* table) {
  Parameter parameter = {.name = name,
                         .module = first,
                         .shape = {kRelativeBuckets, config.heads()},
                         .splits = {{.dim = 1, .axis = Axis::kTensor}},
                         .initial = Initial::kNormal,
                         .deviation = InitialDeviation(config, config.hidden(), config.heads()),
                         .decay = true};
  for (int module = first + 1; module <= last; ++module) parameter.tied_modules.push_back(module);
  table->Add(std::move(parameter));
}

void AttentionLayer::Declare(const ModelConfig& config, const AttentionPlace& place, int module,
                             ParameterTable* table) {
  DeclareLinear(QueryShape(config, place), module, table);
  if (RecipeOf(config).qk_norm) QkNorm::Declare(config.head_dim(), place.prefix, module, table);
  if (place.cross) DeclareLinear(MemoryShape(config, place), module, table);
  DeclareLinear(OutputShape(config, place), module, table);
}

AttentionLayer::AttentionLayer(const ParameterStore& store, const ModelConfig& config, const AttentionPlace& place)
    : config_(config),
      place_(place),
      rotary_(RecipeOf(config).positions == Recipe::Positions::kRotary
                  ? std::optional<RotaryFrequencies>(RotaryFrequenciesOf(config))
                  : std::nullopt),
      norm_(RecipeOf(config).qk_norm
                ? std::optional<QkNorm>(std::in_place, store, config.norm_epsilon(), place.prefix)
                : std::nullopt),
      q_(store, QueryShape(config, place)),
      kv_(place.cross ? std::optional<Linear>(std::in_place, store, MemoryShape(config, place)) : std::nullopt),
      output_(store, OutputShape(config, place)) {
  if (!place.relative.empty()) relative_ = store.View({place.relative});
}

AttentionShape AttentionLayer::ShapeOf(const Context& context, const MicroBatch& batch) const {
  const Sequences& keys = batch.of(place_.cross ? Side::kInput : place_.side);
  AttentionShape shape = {.batch = batch.samples,
                          .tokens = batch.of(place_.side).tokens,
                          .heads = config_.heads() / context.tensor.size(),
                          .kv_heads = config_.kv_heads() / context.tensor.size(),
                          .head_dim = config_.head_dim()};
  if (place_.cross) shape.key_tokens = keys.tokens;
  shape.causal = place_.causal;
  shape.window = place_.window;
  shape.lengths = keys.lengths;
  if (!place_.cross) shape.starts = keys.starts;
  if (!RecipeOf(config_).scaled_scores) shape.scale = 1;
  return shape;
}

AttentionShape AttentionLayer::AttendingShape(const Context& context, const MicroBatch& batch) const {
  AttentionShape shape = ShapeOf(context, batch);
  if (!ExchangesHeads(context)) return shape;
  shape.tokens = batch.of(place_.side).length;
  shape.heads /= context.token_ranks->size();
  shape.kv_heads /= context.token_ranks->size();
  return shape;
}

RingPlace AttentionLayer::Ring(const Context& context, const MicroBatch& batch) const {
  const int64_t length = batch.of(place_.side).length;
  return {.shape = ShapeOf(context, batch),
          .dropout = DropoutOf(context, batch),
          .keys = [length, ranks = context.token_ranks->size(), causal = place_.causal](int rank) {
            return ShareOfTokens(length, ranks, rank, causal);
          }};
}

AttentionHeads AttentionLayer::HeadsOf(const AttentionShape& shape, const Tensor& q, const Tensor& kv) const {
  return place_.cross ? SeparateHeads(q, kv, shape) : FusedHeads(q, shape);
}

AttentionDropout AttentionLayer::DropoutOf(const Context& context, const MicroBatch& batch) const {
  const int64_t heads = int64_t{config_.heads()} / context.tensor.size();
  const int64_t first = ExchangesHeads(context) ? heads / context.token_ranks->size() * context.token_ranks->rank() : 0;
  return {.probability = batch.training ? config_.dropout() : 0,
          .key = RandomKey(context.dropout_seed, "dropout/" + place_.prefix + ".weights"),
          .first_sequence = batch.first_sample,
          .first_head = heads * context.tensor.rank() + first,
          .global_heads = config_.heads(),
          .global_queries = batch.of(place_.side).length,
          .global_keys = batch.of(place_.cross ? Side::kInput : place_.side).length};
}

void AttentionLayer::Prepare(const Context& context, const AttentionShape& shape, const Tensor& qkv,
                             QkNorm::Saved* saved) const {
  if (norm_.has_value()) norm_->Forward(context, shape, qkv, saved);
  if (rotary_.has_value()) Turn(context, shape, qkv, /*inverse=*/false);
}

void AttentionLayer::PrepareBackward(const Context& context, const AttentionShape& shape, const QkNorm::Saved& saved,
                                     const Tensor& d_qkv) const {
  if (rotary_.has_value()) Turn(context, shape, d_qkv, /*inverse=*/true);
  if (norm_.has_value()) norm_->Backward(context, shape, saved, d_qkv);
}

void AttentionLayer::Turn(const Context& context, const AttentionShape& shape, const Tensor& qkv, bool inverse) const {
  // Queries and keys, side by side; not the values. By places in the sample, documents or not: only differences count.
  Rotary(context.device, FusedHeads(qkv, shape).q, shape.heads + shape.kv_heads, shape.head_dim, shape.tokens,
         *rotary_, inverse);
}

Tensor AttentionLayer::Bias(const Context& context, const MicroBatch& batch) const {
  if (!relative_.defined()) return Tensor();
  const Tensor& buckets = batch.of(place_.side).buckets;
  const Tensor bias = context.New({buckets.dim(0), relative_.shape()[1]});
  Embedding(context.device, buckets, relative_.weight(), 0, bias);
  return bias;
}

Tensor AttentionLayer::Forward(const Context& context, const MicroBatch& batch, const Tensor& h, const Tensor& memory,
                               Saved* saved) const {
  const AttentionShape own = ShapeOf(context, batch), shape = AttendingShape(context, batch);
  saved->q = q_.Forward(context, h);
  if (batch.continuation != nullptr) return output_.Forward(context, AttendBehind(context, batch, saved->q));
  if (kv_.has_value()) saved->kv = kv_->Forward(context, memory);
  Prepare(context, own, saved->q, &saved->norm);
  const Sequences& sequences = batch.of(place_.side);
  if (ExchangesHeads(context)) saved->q = ToHeads(context, sequences, saved->q, InputColumns(own));
  saved->out = context.New({saved->q.dim(0), shape.heads * shape.head_dim});
  saved->log_sum_exp = context.NewFloat({shape.batch, shape.heads, shape.tokens.tokens()});
  if (GoesRound(context)) {
    RingAttention(context, Ring(context, batch), saved->q, saved->out, saved->log_sum_exp);
    return output_.Forward(context, saved->out);
  }
  AttentionHeads in = HeadsOf(shape, saved->q, saved->kv);
  in.bias = Bias(context, batch);
  Attention(context.device, in, shape, DropoutOf(context, batch), saved->out, saved->log_sum_exp);
  if (context.attention_probe != nullptr && *context.attention_probe) {
    (*context.attention_probe)(place_.prefix, shape, in, saved->log_sum_exp);
  }
  if (!ExchangesHeads(context)) return output_.Forward(context, saved->out);
  return output_.Forward(context, ToTokens(context, sequences, saved->out, OutputColumns(own)));
}

Tensor AttentionLayer::AttendBehind(const Context& context, const MicroBatch& batch, const Tensor& qkv) const {
  CHECK(!place_.cross && !relative_.defined() && !batch.training);
  AttentionShape shape = ShapeOf(context, batch);
  shape.batch = 1;
  const int64_t q_columns = shape.heads * shape.head_dim, k_columns = shape.kv_heads * shape.head_dim;
  const Tensor out = context.New({qkv.dim(0), q_columns});
  int64_t row = 0;
  for (const Continuation::Part& part : batch.continuation->parts) {
    const int64_t end = row + part.tokens, all = part.first + part.tokens;
    shape.tokens = {{part.first, part.tokens}};
    shape.key_tokens = TokenRanges(all);
    const Tensor queries = qkv.Rows(row, end);
    QkNorm::Saved unused;
    Prepare(context, shape, queries, &unused);
    const Tensor kept = batch.continuation->cache.Of(place_.prefix, part.text, all, 2 * k_columns, context.dtype);
    CopyColumns(context.device, {queries, q_columns}, 2 * k_columns, {kept.Rows(part.first, all), 0});
    Attention(context.device, {{queries, 0}, {kept, 0}, {kept, k_columns}}, shape, {}, out.Rows(row, end),
              context.NewFloat({1, shape.heads, part.tokens}));
    row = end;
  }
  CHECK_EQ(row, qkv.dim(0)) << "tokens of a continuation";
  return out;
}

Tensor AttentionLayer::Backward(const Context& context, const MicroBatch& batch, const Tensor& dy, const Tensor& h,
                                const Tensor& memory, const Saved& saved, WeightGradients& weights,
                                Tensor* d_memory) const {
  const AttentionShape own = ShapeOf(context, batch), shape = AttendingShape(context, batch);
  const Sequences& sequences = batch.of(place_.side);
  const bool exchanges = ExchangesHeads(context);
  const Tensor out = exchanges ? ToTokens(context, sequences, saved.out, OutputColumns(own)) : saved.out;
  Tensor d_out = output_.Backward(context, dy, out, weights);
  if (exchanges) d_out = ToHeads(context, sequences, d_out, OutputColumns(own));
  Tensor d_q = context.New(saved.q.shape());
  if (GoesRound(context)) {
    RingAttentionBackward(context, Ring(context, batch), d_out, saved.q, saved.out, saved.log_sum_exp, d_q);
    PrepareBackward(context, own, saved.norm, d_q);
    return q_.Backward(context, d_q, h, weights);
  }
  const Tensor d_kv = kv_.has_value() ? context.New(saved.kv.shape()) : Tensor();
  AttentionHeads in = HeadsOf(shape, saved.q, saved.kv), gradients = HeadsOf(shape, d_q, d_kv);
  in.bias = Bias(context, batch);
  if (in.bias.defined()) {
    gradients.bias = context.NewFloat(in.bias.shape());
    Fill(context.device, gradients.bias, 0);
  }
  AttentionBackward(context.device, d_out, in, saved.out, saved.log_sum_exp, shape, DropoutOf(context, batch),
                    gradients);
  if (in.bias.defined()) {
    weights.Add([this, &device = context.device, buckets = batch.of(place_.side).buckets, d_bias = gradients.bias] {
      EmbeddingBackward(device, buckets, d_bias, 0, relative_.gradient());
    });
  }
  if (exchanges) d_q = ToTokens(context, sequences, d_q, InputColumns(own));
  PrepareBackward(context, own, saved.norm, d_q);
  if (kv_.has_value()) *d_memory = kv_->Backward(context, d_kv, memory, weights);
  return q_.Backward(context, d_q, h, weights);
}

}  // namespace trefoil
