#include "model/layers/whole_linear.h"

namespace trefoil {

void WholeLinear::Declare(const WholeLinearShape& shape, int module, ParameterTable* table) {
  const AxisSet partial = shape.all_rows ? AxisSet() : Axis::kTensor;
  table->Add({.name = shape.prefix + ".weight",
              .module = module,
              .shape = {shape.outputs, shape.inputs},
              .partial_over = partial,
              .initial = Initial::kNormal,
              .deviation = shape.deviation,
              .decay = true});
  if (!shape.bias) return;
  table->Add({.name = shape.prefix + ".bias", .module = module, .shape = {shape.outputs}, .partial_over = partial});
}

WholeLinear::WholeLinear(const ParameterStore& store, const WholeLinearShape& shape)
    : weight_(store.View({shape.prefix + ".weight"})) {
  if (shape.bias) bias_ = store.View({shape.prefix + ".bias"});
}

Tensor WholeLinear::Forward(const Context& context, const Tensor& x, bool to_float) const {
  const Shape shape = {x.dim(0), weight_.shape()[0]};
  const Tensor y = to_float ? context.NewFloat(shape) : context.New(shape);
  Matmul(context.device, x, Transpose::kNo, weight_.weight(), Transpose::kYes, y, Accumulate::kNo, bias_.weight());
  return y;
}

Tensor WholeLinear::Backward(const Context& context, const Tensor& dy, const Tensor& x,
                             WeightGradients& weights) const {
  const Tensor dx = context.New(x.shape());
  Matmul(context.device, dy, Transpose::kNo, weight_.weight(), Transpose::kNo, dx);
  AddGradients(context, dy, x, weights);
  return dx;
}

void WholeLinear::AddGradients(const Context& context, const Tensor& dy, const Tensor& x,
                               WeightGradients& weights) const {
  if (!weight_.trained() && !bias_.trained()) return;
  weights.Add([this, &device = context.device, dy, x] {
    WeightGradient(device, dy, x, weight_.gradient(), bias_.gradient());
  });
}

}  // namespace trefoil
