#include "model/layers/embedding.h"

#include <cmath>

#include "parallel/placement.h"

namespace trefoil {
namespace {

constexpr char kToken[] = "embedding.token.weight";
constexpr char kPosition[] = "embedding.position.weight";
constexpr char kSegment[] = "embedding.segment.weight";
constexpr char kNorm[] = "embedding.norm";

int64_t FirstTableRow(const Context& context, const ModelConfig& config) {
  return SplitBegin(config.vocabulary(), context.tensor.size(), context.tensor.rank());
}

}  // namespace

void TokenEmbedding::Declare(const ModelConfig& config, int module, const std::vector<int>& tied,
                             ParameterTable* table) {
  const Recipe recipe = RecipeOf(config);
  table->Add({.name = kToken,
              .module = module,
              .tied_modules = tied,
              .shape = {config.vocabulary(), config.hidden()},
              .splits = {{.dim = 0, .axis = Axis::kTensor}},
              .initial = Initial::kNormal,
              .deviation = EmbeddingDeviation(config),
              .decay = true});
  const auto add = [&](const char* name, int64_t rows) {
    table->Add({.name = name,
                .module = module,
                .shape = {rows, config.hidden()},
                .partial_over = Axis::kTensor,
                .initial = Initial::kNormal,
                .deviation = EmbeddingDeviation(config),
                .decay = true});
  };
  if (recipe.positions == Recipe::Positions::kLearned) add(kPosition, config.sequence_length());
  if (recipe.segments) add(kSegment, 2);
  if (recipe.embedding_norm) Norm::Declare(config, kNorm, module, table);
}

TokenEmbedding::TokenEmbedding(const ParameterStore& store, const ModelConfig& config, int module, Side side)
    : config_(config),
      module_(module),
      side_(side),
      name_(side == Side::kInput ? "embedding" : "decoder.embedding"),
      table_(store.View({kToken})) {
  const Recipe recipe = RecipeOf(config);
  if (recipe.positions == Recipe::Positions::kLearned) positions_ = store.View({kPosition});
  if (recipe.segments) segments_ = store.View({kSegment});
  if (recipe.embedding_norm) norm_.emplace(store, config, kNorm);
}

DropoutMask TokenEmbedding::MaskOfSum(const Context& context, const MicroBatch& batch) const {
  return MaskOf(context, batch, config_.dropout(), name_, config_.hidden(), side_);
}

Tensors TokenEmbedding::Forward(const Context& context, const MicroBatch& batch, const Tensors&,
                                ForwardPass* pass) const {
  Device& device = context.device;
  const Sequences& sequences = batch.of(side_);
  const Tensor partial = context.New({batch.rows(side_), table_.shape()[1]});
  Embedding(device, sequences.ids, table_.weight(), FirstTableRow(context, config_), partial);
  Tensor x = context.ReduceTokens(partial);
  if (RecipeOf(config_).scaled_embedding) Scale(device, x, std::sqrt(static_cast<float>(config_.hidden())), x);
  const auto add = [&](const Tensor& ids, const Tensor& table) {
    Embedding(device, context.LocalTokens(ids), table, 0, x, Accumulate::kYes);
  };
  if (positions_.defined()) add(sequences.positions, positions_.weight());
  if (sequences.sinusoids.defined()) add(sequences.positions, sequences.sinusoids);
  if (segments_.defined()) add(batch.segments, segments_.weight());
  if (norm_.has_value()) {
    auto saved = std::make_unique<Saved>();
    x = norm_->Forward(context, x, &saved->norm);
    if (batch.training) pass->saved = std::move(saved);
  }
  if (const DropoutMask mask = MaskOfSum(context, batch); mask.probability > 0) Dropout(device, x, mask, x);
  context.Inspect(Pass::kForward, module_, name_, "", x);
  return {x};
}

Tensors TokenEmbedding::Backward(const Context& context, const MicroBatch& batch, const Tensors& d_output,
                                 std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const {
  Device& device = context.device;
  Tensor dx = d_output.front();
  if (const DropoutMask mask = MaskOfSum(context, batch); mask.probability > 0) Dropout(device, dx, mask, dx);
  if (norm_.has_value()) dx = norm_->Backward(context, dx, static_cast<const Saved&>(*kept).norm, Tensor());
  Tensor d_tokens = dx;
  if (RecipeOf(config_).scaled_embedding) {
    d_tokens = context.New(dx.shape());
    Scale(device, dx, std::sqrt(static_cast<float>(config_.hidden())), d_tokens);
  }
  const Tensor all = context.GatherTokens(d_tokens);
  weights.Add([this, &context, batch, dx, all] {
    const auto add = [&](const Tensor& ids, const ParameterView& table) {
      if (table.defined()) EmbeddingBackward(context.device, context.LocalTokens(ids), dx, 0, table.gradient());
    };
    EmbeddingBackward(context.device, batch.of(side_).ids, all, FirstTableRow(context, config_), table_.gradient());
    add(batch.of(side_).positions, positions_);
    add(batch.segments, segments_);
  });
  return {};
}

}  // namespace trefoil
