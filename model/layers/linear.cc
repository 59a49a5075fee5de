#include "model/layers/linear.h"

#include <algorithm>

namespace trefoil {
namespace {

std::vector<std::string> Names(const LinearShape& shape, const std::string& suffix) {
  std::vector<std::string> names;
  for (const std::string& prefix : shape.prefixes) names.push_back(prefix + suffix);
  return names;
}

}  // namespace

LinearShape WithAdapters(const ModelConfig& config, const std::vector<LoraConfig::Target>& prefixes,
                         LinearShape shape) {
  CHECK_EQ(prefixes.size(), shape.prefixes.size());
  const LoraConfig& lora = config.lora();
  if (lora.rank() == 0) return shape;
  shape.rank = lora.rank();
  shape.adapter_scale = lora.alpha() / static_cast<float>(lora.rank());
  for (const LoraConfig::Target target : prefixes) {
    shape.adapted.push_back(std::find(lora.on().begin(), lora.on().end(), target) != lora.on().end());
  }
  return shape;
}

void DeclareLinear(const LinearShape& shape, int module, ParameterTable* table) {
  const bool column = shape.split == Split::kColumn;
  for (size_t i = 0; i < shape.prefixes.size(); ++i) {
    table->Add({.name = shape.prefixes[i] + ".weight",
                .module = module,
                .shape = {shape.outputs[i], shape.inputs},
                .splits = {{.dim = column ? 0 : 1, .axis = Axis::kTensor}},
                .initial = Initial::kNormal,
                .deviation = shape.deviations[i],
                .decay = true,
                .fused_with_previous = i > 0});
  }
  for (size_t i = 0; shape.bias && i < shape.prefixes.size(); ++i) {
    table->Add({.name = shape.prefixes[i] + ".bias",
                .module = module,
                .shape = {shape.outputs[i]},
                .splits = column ? std::vector<ParameterSplit>{{.dim = 0, .axis = Axis::kTensor}}
                                 : std::vector<ParameterSplit>(),
                .partial_over = column ? AxisSet() : Axis::kTensor,
                .initial = Initial::kZeros,
                .fused_with_previous = i > 0});
  }
  for (size_t i = 0; i < shape.adapted.size(); ++i) {
    if (!shape.adapted[i]) continue;
    DeclareAdapter({.prefix = shape.prefixes[i],
                    .outputs = shape.outputs[i],
                    .inputs = shape.inputs,
                    .rank = shape.rank,
                    .column = column},
                   module, table);
  }
}

Linear::Linear(const ParameterStore& store, const LinearShape& shape)
    : split_(shape.split), weight_(store.View(Names(shape, ".weight"))), adapters_(shape.adapter_scale) {
  if (shape.bias) bias_ = store.View(Names(shape, ".bias"));
  int64_t first = 0;
  for (size_t i = 0; i < shape.adapted.size(); ++i) {
    if (shape.adapted[i]) adapters_.Add(store, shape.prefixes[i], first);
    first += store.View({shape.prefixes[i] + ".weight"}).shape()[0];
  }
}

Tensor Linear::Forward(const Context& context, const Tensor& x) const {
  if (split_ == Split::kColumn) {
    const Tensor all = context.GatherTokens(x);
    const Tensor y = context.New({all.dim(0), weight_.shape()[0]});
    Multiply(context, all, bias_.weight(), y);
    adapters_.Forward(context, all, y);
    return y;
  }
  const bool whole = context.tensor.size() == 1;
  const Tensor partial = context.New({x.dim(0), weight_.shape()[0]});
  Multiply(context, x, whole ? bias_.weight() : Tensor(), partial);
  adapters_.Forward(context, x, partial);
  const Tensor y = context.ReduceTokens(partial);
  if (!whole && bias_.defined()) AddBias(context.device, y, bias_.weight());
  return y;
}

Tensor Linear::ForwardActivated(const Context& context, Activation activation, const Tensor& x,
                                Tensor* before) const {
  CHECK(split_ == Split::kColumn);
  const Tensor all = context.GatherTokens(x);
  *before = context.New({all.dim(0), weight_.shape()[0]});
  const Tensor y = context.New(before->shape());
  if (fuses(context)) {
    MatmulActivate(context.device, activation, all, weight_.weight(), bias_.weight(), *before, y);
  } else {
    Multiply(context, all, bias_.weight(), *before);
    adapters_.Forward(context, all, *before);
    Activate(context.device, activation, *before, y);
  }
  return y;
}

Tensor Linear::Backward(const Context& context, const Tensor& dy, const Tensor& x, WeightGradients& weights) const {
  return Backward(context, dy, x, bias_, weights);
}

Tensor Linear::Backward(const Context& context, const Tensor& dy, const Tensor& x, const ParameterView& bias,
                        WeightGradients& weights) const {
  const bool column = split_ == Split::kColumn;
  const Tensor all_dy = column ? dy : context.GatherTokens(dy);
  const Tensor known_x = column && adapters_.trained() ? context.GatherTokens(x) : x;
  const Float8Operand all_dy8 = OutputGradient(context, all_dy);
  Tensor dx = context.New({all_dy.dim(0), weight_.shape()[1]});
  InputGradient(context, all_dy, all_dy8, dx);
  adapters_.Backward(context, all_dy, known_x, dx, weights);
  if (column) dx = context.ReduceTokens(dx);
  AddWeightGradients(context, dy, all_dy, all_dy8, known_x,
                     column && weight_.trained() && !adapters_.trained(), bias, weights);
  return dx;
}

Tensor Linear::BackwardActivated(const Context& context, Activation activation, const Tensor& dy, const Tensor& x,
                                 const Tensor& before, const Linear& previous, const Tensor& previous_x,
                                 WeightGradients& weights) const {
  CHECK(split_ == Split::kRow && previous.split_ == Split::kColumn);
  const Tensor d_before = context.New(before.shape());
  {
    const Tensor all_dy = context.GatherTokens(dy);  // given up before the other layer's backward
    const Float8Operand all_dy8 = OutputGradient(context, all_dy);
    if (fuses(context)) {
      MatmulActivateBackward(context.device, activation, all_dy, weight_.weight(), before, d_before,
                             previous.bias_.gradient());
    } else {
      InputGradient(context, all_dy, all_dy8, d_before);
      adapters_.Backward(context, all_dy, x, d_before, weights);
      ActivateBackward(context.device, activation, d_before, before, d_before);
      BiasBackward(context.device, d_before, previous.bias_.gradient());
    }
    AddWeightGradients(context, dy, all_dy, all_dy8, x, /*gathers_x=*/false, bias_, weights);
  }
  return previous.Backward(context, d_before, previous_x, /*bias=*/ParameterView(), weights);
}

void Linear::Multiply(const Context& context, const Tensor& all_x, const Tensor& bias, const Tensor& y) const {
  if (!context.float8) {
    return Matmul(context.device, all_x, Transpose::kNo, weight_.weight(), Transpose::kYes, y, Accumulate::kNo, bias);
  }
  const Float8Operand x8 = ToFloat8(context, all_x, DType::kFloat8E4M3, Layouts::kPlain);
  const Float8Operand w8 = ToFloat8(context, weight_.weight(), DType::kFloat8E4M3, Layouts::kPlain);
  MatmulFloat8(context.device, x8.plain, x8.scale, w8.plain, w8.scale, y, Accumulate::kNo, bias);
}

Float8Operand Linear::OutputGradient(const Context& context, const Tensor& all_dy) const {
  if (!context.float8) return {};
  return ToFloat8(context, all_dy, DType::kFloat8E5M2, weight_.trained() ? Layouts::kBoth : Layouts::kPlain);
}

void Linear::InputGradient(const Context& context, const Tensor& all_dy, const Float8Operand& all_dy8,
                           const Tensor& dx) const {
  if (!context.float8) return Matmul(context.device, all_dy, Transpose::kNo, weight_.weight(), Transpose::kNo, dx);
  const Float8Operand w8 = ToFloat8(context, weight_.weight(), DType::kFloat8E4M3, Layouts::kTransposed);
  MatmulFloat8(context.device, all_dy8.plain, all_dy8.scale, w8.transposed, w8.scale, dx);
}

void Linear::AddWeightGradients(const Context& context, const Tensor& dy, const Tensor& all_dy,
                                const Float8Operand& all_dy8, const Tensor& x, bool gathers_x,
                                const ParameterView& bias, WeightGradients& weights) const {
  if (!weight_.trained() && !bias.trained()) return;
  const auto all_of = [&context, gathers_x](const Tensor& kept) {
    return gathers_x ? context.GatherTokens(kept) : kept;
  };
  if (context.float8 && weight_.trained()) {
    return weights.Add([this, &context, bias_dy = bias.trained() ? dy : Tensor(), dy8 = all_dy8.transposed,
                        dy_scale = all_dy8.scale, x, all_of, bias] {
      const Float8Operand x8 = ToFloat8(context, all_of(x), DType::kFloat8E4M3, Layouts::kTransposed);
      MatmulFloat8(context.device, dy8, dy_scale, x8.transposed, x8.scale, weight_.gradient(), Accumulate::kYes);
      BiasBackward(context.device, bias_dy, bias.gradient());
    });
  }
  const bool row = split_ == Split::kRow;
  // A row layer adds its bias to this rank's tokens only.
  const bool bias_apart = row && context.splits_tokens() && bias.defined();
  const bool gathers_dy = row && context.splits_tokens() && weight_.trained() && !weights.at_once();
  weights.Add([this, &context, dy, known_dy = gathers_dy ? Tensor() : all_dy, x, all_of, bias, bias_apart] {
    const Tensor all_dy = known_dy.defined() ? known_dy : context.GatherTokens(dy);
    WeightGradient(context.device, all_dy, all_of(x), weight_.gradient(), bias_apart ? Tensor() : bias.gradient());
    if (bias_apart) BiasBackward(context.device, dy, bias.gradient());
  });
}

}  // namespace trefoil
