#include "model/layers/norm.h"

namespace trefoil {

bool NormBeforeHead(const ModelConfig& config) {
  const Recipe recipe = RecipeOf(config);
  return recipe.norm_place == Recipe::NormPlace::kBefore && recipe.structure != Recipe::Structure::kRecurrent;
}

void Norm::Declare(const ModelConfig& config, const std::string& prefix, int module, ParameterTable* table,
                   bool all_rows) {
  const AxisSet partial = all_rows ? AxisSet() : Axis::kTensor;
  table->Add({.name = prefix + ".weight",
              .module = module,
              .shape = {config.hidden()},
              .partial_over = partial,
              .initial = Initial::kOnes});
  if (RecipeOf(config).norm == Recipe::Norm::kRmsNorm) return;
  table->Add({.name = prefix + ".bias", .module = module, .shape = {config.hidden()}, .partial_over = partial});
}

Norm::Norm(const ParameterStore& store, const ModelConfig& config, const std::string& prefix)
    : kind_(RecipeOf(config).norm),
      epsilon_(config.norm_epsilon()),
      weight_(store.View({prefix + ".weight"})) {
  if (kind_ == Recipe::Norm::kLayerNorm) bias_ = store.View({prefix + ".bias"});
}

Tensor Norm::Forward(const Context& context, const Tensor& x, Saved* saved) const {
  const Tensor y = context.New(x.shape());
  saved->x = x;
  saved->rstd = context.NewFloat({x.dim(0)});
  if (kind_ == Recipe::Norm::kLayerNorm) {
    saved->mean = context.NewFloat({x.dim(0)});
    LayerNorm(context.device, x, weight_.weight(), bias_.weight(), epsilon_, y, saved->mean, saved->rstd);
  } else {
    RmsNorm(context.device, x, weight_.weight(), epsilon_, y, saved->rstd);
  }
  return y;
}

Tensor Norm::Backward(const Context& context, const Tensor& dy, const Saved& saved, const Tensor& d_residual) const {
  const Tensor dx = context.New(dy.shape());
  // The ops make them in any case.
  const auto gradient = [&](const ParameterView& view) {
    return view.trained() ? view.gradient() : context.NewFloat(view.shape());
  };
  if (kind_ == Recipe::Norm::kLayerNorm) {
    LayerNormBackward(context.device, dy, saved.x, weight_.weight(), saved.mean, saved.rstd, d_residual, dx,
                      gradient(weight_), gradient(bias_));
  } else {
    RmsNormBackward(context.device, dy, saved.x, weight_.weight(), saved.rstd, d_residual, dx, gradient(weight_));
  }
  return dx;
}

}  // namespace trefoil
