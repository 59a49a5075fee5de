#include "model/layers/token_transform.h"

#include "model/layers/rows.h"

namespace trefoil {
namespace {

constexpr char kFirst[] = "head.norm";
constexpr char kLast[] = "head.transform_norm";

WholeLinearShape ShapeOf(const ModelConfig& config) {
  return {.prefix = "head.transform",
          .outputs = config.hidden(),
          .inputs = config.hidden(),
          .bias = RecipeOf(config).bias,
          .deviation = InitialDeviation(config, config.hidden(), config.hidden())};
}

}  // namespace

void TokenTransform::Declare(const ModelConfig& config, int module, ParameterTable* table) {
  if (NormBeforeHead(config)) Norm::Declare(config, kFirst, module, table);
  WholeLinear::Declare(ShapeOf(config), module, table);
  Norm::Declare(config, kLast, module, table, /*all_rows=*/true);
}

double TokenTransform::Flops(const ModelConfig& config) {
  ParameterTable table;
  WholeLinear::Declare(ShapeOf(config), 0, &table);
  return 6.0 * static_cast<double>(table.elements()) * config.targets();
}

TokenTransform::TokenTransform(const ParameterStore& store, const ModelConfig& config, int module)
    : config_(config),
      module_(module),
      activation_(RecipeOf(config).activation),
      first_(NormBeforeHead(config) ? std::optional<Norm>(std::in_place, store, config, kFirst) : std::nullopt),
      linear_(store, ShapeOf(config)),
      last_(store, config, kLast) {}

Tensors TokenTransform::Forward(const Context& context, const MicroBatch& batch, const Tensors& x,
                                ForwardPass* pass) const {
  auto saved = std::make_unique<Saved>();
  const Tensor normed = first_.has_value() ? first_->Forward(context, x.front(), &saved->first) : x.front();
  saved->h = context.GatherTokens(normed);
  if (batch.target_rows.defined()) saved->h = ChooseRows(context, saved->h, batch.target_rows);
  saved->before = linear_.Forward(context, saved->h);
  const Tensor activated = context.New(saved->before.shape());
  Activate(context.device, activation_, saved->before, activated);
  const Tensor y = last_.Forward(context, activated, &saved->last);
  context.Inspect(Pass::kForward, module_, "head", ".transform", y);
  if (batch.training) pass->saved = std::move(saved);
  return {y};
}

Tensors TokenTransform::Backward(const Context& context, const MicroBatch& batch, const Tensors& dy,
                                 std::unique_ptr<Module::Saved> kept, WeightGradients& weights) const {
  const Saved& saved = static_cast<const Saved&>(*kept);
  const Tensor d_activated = last_.Backward(context, dy.front(), saved.last, Tensor());
  const Tensor d_before = context.New(d_activated.shape());
  ActivateBackward(context.device, activation_, d_activated, saved.before, d_before);
  Tensor dh = linear_.Backward(context, d_before, saved.h, weights);
  if (batch.row_targets.defined()) dh = ChooseRows(context, dh, batch.row_targets);
  Tensor dx = context.LocalTokens(dh);
  if (first_.has_value()) dx = first_->Backward(context, dx, saved.first, Tensor());
  context.Inspect(Pass::kBackward, module_, "head", ".transform", dx);
  return {dx};
}

}  // namespace trefoil
