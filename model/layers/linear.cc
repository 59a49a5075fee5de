#include "model/layers/linear.h"

namespace trefoil {
namespace {

std::vector<std::string> Names(const LinearShape& shape, const std::string& suffix) {
  std::vector<std::string> names;
  for (const std::string& prefix : shape.prefixes) names.push_back(prefix + suffix);
  return names;
}

}  // namespace

void DeclareLinear(const LinearShape& shape, int home, ParameterTable* table) {
  const bool column = shape.split == Split::kColumn;
  for (size_t i = 0; i < shape.prefixes.size(); ++i) {
    table->Add({.name = shape.prefixes[i] + ".weight",
                .home = home,
                .shape = {shape.outputs[i], shape.inputs},
                .split_dim = column ? 0 : 1,
                .initial = Initial::kNormal,
                .deviation = shape.deviation,
                .decay = true,
                .fused_with_previous = i > 0});
  }
  if (!shape.bias) return;
  for (size_t i = 0; i < shape.prefixes.size(); ++i) {
    table->Add({.name = shape.prefixes[i] + ".bias",
                .home = home,
                .shape = {shape.outputs[i]},
                .split_dim = column ? 0 : -1,
                .used_on_split_tokens = !column,
                .initial = Initial::kZeros,
                .fused_with_previous = i > 0});
  }
}

Linear::Linear(const ParameterStore& store, const LinearShape& shape)
    : split_(shape.split),
      weight_(store.Weight(Names(shape, ".weight"))),
      d_weight_(store.Gradient(Names(shape, ".weight"))) {
  if (shape.bias) {
    bias_ = store.Weight(Names(shape, ".bias"));
    d_bias_ = store.Gradient(Names(shape, ".bias"));
  }
}

Tensor Linear::Forward(const Context& context, const Tensor& x) const {
  if (split_ == Split::kColumn) {
    const Tensor all = context.GatherTokens(x);
    const Tensor y = context.New({all.dim(0), weight_.dim(0)});
    Matmul(context.device, all, Transpose::kNo, weight_, Transpose::kYes, y, Accumulate::kNo, bias_);
    return y;
  }
  const bool whole = context.tensor.size() == 1;
  const Tensor partial = context.New({x.dim(0), weight_.dim(0)});
  Matmul(context.device, x, Transpose::kNo, weight_, Transpose::kYes, partial, Accumulate::kNo,
         whole ? bias_ : Tensor());
  const Tensor y = context.ReduceTokens(partial);
  if (!whole && bias_.defined()) AddBias(context.device, y, bias_);
  return y;
}

Tensor Linear::Backward(const Context& context, const Tensor& dy, const Tensor& x, WeightGradients& weights) const {
  const bool column = split_ == Split::kColumn;
  const Tensor all_dy = column ? dy : context.GatherTokens(dy);
  const Tensor all_x = column ? context.GatherTokens(x) : x;
  Tensor dx = context.New({all_dy.dim(0), weight_.dim(1)});
  Matmul(context.device, all_dy, Transpose::kNo, weight_, Transpose::kNo, dx);
  if (column) dx = context.ReduceTokens(dx);
  weights.Add([this, &device = context.device, dy, all_dy, all_x] {
    Matmul(device, all_dy, Transpose::kYes, all_x, Transpose::kNo, d_weight_, Accumulate::kYes);
    // A row layer adds its bias to this rank's tokens only.
    if (d_bias_.defined()) BiasBackward(device, dy, d_bias_);
  });
  return dx;
}

}  // namespace trefoil
