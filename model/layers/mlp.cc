#include "model/layers/mlp.h"

namespace trefoil {
namespace {

LinearShape UpShape(const ModelConfig& config, const std::string& prefix) {
  const Recipe recipe = RecipeOf(config);
  LinearShape shape = {.prefixes = {},
                       .outputs = {},
                       .inputs = config.hidden(),
                       .bias = recipe.mlp_bias,
                       .deviations = {},
                       .split = Split::kColumn};
  if (recipe.gated) shape.prefixes.push_back(prefix + ".gate");
  shape.prefixes.push_back(prefix + ".up");
  shape.outputs.assign(shape.prefixes.size(), config.feed_forward());
  shape.deviations.assign(shape.prefixes.size(),
                          InitialDeviation(config, config.hidden(), config.feed_forward()));
  return WithAdapters(
      config, recipe.gated ? std::vector{LoraConfig::GATE, LoraConfig::UP} : std::vector{LoraConfig::UP}, shape);
}

LinearShape DownShape(const ModelConfig& config, const std::string& prefix) {
  return WithAdapters(
      config, {LoraConfig::DOWN},
      {.prefixes = {prefix + ".down"},
       .outputs = {config.hidden()},
       .inputs = config.feed_forward(),
       .bias = RecipeOf(config).mlp_bias,
       .deviations = {InitialDeviation(config, config.feed_forward(), config.hidden(), /*residual=*/true)},
       .split = Split::kRow});
}

}  // namespace

void Mlp::Declare(const ModelConfig& config, const std::string& prefix, int module, ParameterTable* table) {
  DeclareLinear(UpShape(config, prefix), module, table);
  DeclareLinear(DownShape(config, prefix), module, table);
}

Mlp::Mlp(const ParameterStore& store, const ModelConfig& config, const std::string& prefix)
    : activation_(RecipeOf(config).activation),
      gated_(RecipeOf(config).gated),
      up_(store, UpShape(config, prefix)),
      down_(store, DownShape(config, prefix)) {}

Tensor Mlp::Activate(const Context& context, const Tensor& f) const {
  const Tensor a = context.New({f.dim(0), gated_ ? f.dim(1) / 2 : f.dim(1)});
  (gated_ ? GatedActivate : trefoil::Activate)(context.device, activation_, f, a);
  return a;
}

Tensor Mlp::Forward(const Context& context, const Tensor& h, Saved* saved) const {
  if (gated_) {
    saved->f = up_.Forward(context, h);
    saved->a = Activate(context, saved->f);
  } else {
    saved->a = up_.ForwardActivated(context, activation_, h, &saved->f);
  }
  return down_.Forward(context, saved->a);
}

Tensor Mlp::Backward(const Context& context, const Tensor& dy, const Tensor& h, const Saved& saved,
                     WeightGradients& weights) const {
  const Tensor a = saved.a.defined() ? saved.a : Activate(context, saved.f);
  if (!gated_) return down_.BackwardActivated(context, activation_, dy, a, saved.f, up_, h, weights);
  const Tensor da = down_.Backward(context, dy, a, weights);
  const Tensor df = context.New(saved.f.shape());
  GatedActivateBackward(context.device, activation_, da, saved.f, df);
  return up_.Backward(context, df, h, weights);
}

}  // namespace trefoil
