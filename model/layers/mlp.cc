#include "model/layers/mlp.h"

#include <cmath>

namespace trefoil {
namespace {

LinearShape UpShape(const ModelConfig& config, const std::string& prefix) {
  const Recipe recipe = RecipeOf(config);
  LinearShape shape = {.prefixes = {},
                       .outputs = {},
                       .inputs = config.hidden(),
                       .bias = recipe.bias,
                       .deviation = config.initial_deviation(),
                       .split = Split::kColumn};
  if (recipe.activation == Recipe::Activation::kSwiGlu) shape.prefixes.push_back(prefix + ".gate");
  shape.prefixes.push_back(prefix + ".up");
  shape.outputs.assign(shape.prefixes.size(), config.feed_forward());
  return shape;
}

LinearShape DownShape(const ModelConfig& config, const std::string& prefix) {
  return {.prefixes = {prefix + ".down"},
          .outputs = {config.hidden()},
          .inputs = config.feed_forward(),
          .bias = RecipeOf(config).bias,
          .deviation = config.initial_deviation() / std::sqrt(2.0f * static_cast<float>(config.layers())),
          .split = Split::kRow};
}

}  // namespace

void Mlp::Declare(const ModelConfig& config, const std::string& prefix, int module, ParameterTable* table) {
  DeclareLinear(UpShape(config, prefix), module, table);
  DeclareLinear(DownShape(config, prefix), module, table);
}

Mlp::Mlp(const ParameterStore& store, const ModelConfig& config, const std::string& prefix)
    : activation_(RecipeOf(config).activation),
      up_(store, UpShape(config, prefix)),
      down_(store, DownShape(config, prefix)) {}

Tensor Mlp::Activate(const Context& context, const Tensor& f) const {
  if (activation_ == Recipe::Activation::kGelu) {
    const Tensor a = context.New(f.shape());
    Gelu(context.device, f, a);
    return a;
  }
  const Tensor a = context.New({f.dim(0), f.dim(1) / 2});
  SwiGlu(context.device, f, a);
  return a;
}

Tensor Mlp::Forward(const Context& context, const Tensor& h, Saved* saved) const {
  if (activation_ == Recipe::Activation::kGelu) {
    saved->a = up_.ForwardGelu(context, h, &saved->f);
  } else {
    saved->f = up_.Forward(context, h);
    saved->a = Activate(context, saved->f);
  }
  return down_.Forward(context, saved->a);
}

Tensor Mlp::Backward(const Context& context, const Tensor& dy, const Tensor& h, const Saved& saved,
                     WeightGradients& weights) const {
  const Tensor a = saved.a.defined() ? saved.a : Activate(context, saved.f);
  if (activation_ == Recipe::Activation::kGelu) return down_.BackwardGelu(context, dy, a, saved.f, up_, h, weights);
  const Tensor da = down_.Backward(context, dy, a, weights);
  const Tensor df = context.New(saved.f.shape());
  SwiGluBackward(context.device, da, saved.f, df);
  return up_.Backward(context, df, h, weights);
}

}  // namespace trefoil
