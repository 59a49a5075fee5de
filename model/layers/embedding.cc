#include "model/layers/embedding.h"

#include "parallel/placement.h"

namespace trefoil {
namespace {

constexpr char kToken[] = "embedding.token.weight";
constexpr char kPosition[] = "embedding.position.weight";

// This rank's positions of the micro-batch.
Tensor LocalPositions(const Context& context, const MicroBatch& batch) {
  const int64_t first = context.FirstLocalRow(batch.rows());
  return batch.positions.Rows(first, first + context.LocalRows(batch.rows()));
}

int64_t FirstTableRow(const Context& context, const ModelConfig& config) {
  return SplitBegin(config.vocabulary(), context.tensor.size(), context.tensor.rank());
}

}  // namespace

void TokenEmbedding::Declare(const ModelConfig& config, int module, int head, ParameterTable* table) {
  const Recipe recipe = RecipeOf(config);
  table->Add({.name = kToken,
              .module = module,
              .tied_modules = recipe.tied ? std::vector<int>{head} : std::vector<int>(),
              .shape = {config.vocabulary(), config.hidden()},
              .splits = {{.dim = 0, .axis = Axis::kTensor}},
              .initial = Initial::kNormal,
              .deviation = config.initial_deviation(),
              .decay = true});
  if (!recipe.learned_positions) return;
  table->Add({.name = kPosition,
              .module = module,
              .shape = {config.sequence_length(), config.hidden()},
              .partial_over = Axis::kTensor,
              .initial = Initial::kNormal,
              .deviation = config.initial_deviation(),
              .decay = true});
}

TokenEmbedding::TokenEmbedding(const ParameterStore& store, const ModelConfig& config, int module)
    : config_(config), module_(module), table_(store.View({kToken})) {
  if (RecipeOf(config).learned_positions) positions_ = store.View({kPosition});
}

Tensors TokenEmbedding::Forward(const Context& context, const MicroBatch& batch, const Tensors&, ForwardPass*) const {
  const Tensor partial = context.New({batch.rows(), table_.shape()[1]});
  Embedding(context.device, batch.inputs, table_.weight(), FirstTableRow(context, config_), partial);
  const Tensor x = context.ReduceTokens(partial);
  if (positions_.defined()) {
    Embedding(context.device, LocalPositions(context, batch), positions_.weight(), 0, x, Accumulate::kYes);
  }
  const DropoutMask mask = MaskOf(context, batch, config_.dropout(), "embedding", x.dim(1));
  if (mask.probability > 0) Dropout(context.device, x, mask, x);
  context.Inspect(Pass::kForward, module_, "embedding", "", x);
  return {x};
}

Tensors TokenEmbedding::Backward(const Context& context, const MicroBatch& batch, const Tensors& d_output,
                                 std::unique_ptr<Module::Saved>, WeightGradients& weights) const {
  const Tensor& dx = d_output.front();
  const DropoutMask mask = MaskOf(context, batch, config_.dropout(), "embedding", dx.dim(1));
  if (mask.probability > 0) Dropout(context.device, dx, mask, dx);
  const Tensor all_dx = context.GatherTokens(dx);
  weights.Add([this, &context, batch, dx, all_dx] {
    EmbeddingBackward(context.device, batch.inputs, all_dx, FirstTableRow(context, config_), table_.gradient());
    if (positions_.defined()) {
      EmbeddingBackward(context.device, LocalPositions(context, batch), dx, 0, positions_.gradient());
    }
  });
  return {};
}

}  // namespace trefoil
