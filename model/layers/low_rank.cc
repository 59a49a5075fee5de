#include "model/layers/low_rank.h"

#include <absl/strings/match.h>

#include <algorithm>
#include <cmath>

namespace trefoil {
namespace {

constexpr char kA[] = ".lora_a", kB[] = ".lora_b";

}  // namespace

void DeclareAdapter(const AdapterShape& shape, int module, ParameterTable* table) {
  const std::vector<ParameterSplit> whole;
  const auto split = [](int dim) { return std::vector<ParameterSplit>{{.dim = dim, .axis = Axis::kTensor}}; };
  table->Add({.name = shape.prefix + kA,
              .module = module,
              .shape = {shape.rank, shape.inputs},
              .splits = shape.column ? whole : split(1),
              .summed_over = shape.column ? Axis::kTensor : AxisSet(),
              .initial = Initial::kNormal,
              .deviation = 1 / std::sqrt(static_cast<float>(shape.inputs)),
              .decay = true});
  table->Add({.name = shape.prefix + kB,
              .module = module,
              .shape = {shape.outputs, shape.rank},
              .splits = shape.column ? split(0) : whole,
              .summed_over = shape.column ? AxisSet() : Axis::kTensor,
              .decay = true});
}

bool IsAdapter(const std::string& name) { return absl::EndsWith(name, kA) || absl::EndsWith(name, kB); }

void Adapters::Add(const ParameterStore& store, const std::string& prefix, int64_t first) {
  adapters_.push_back({.a = store.View({prefix + kA}), .b = store.View({prefix + kB}), .first = first});
}

bool Adapters::trained() const {
  return std::any_of(adapters_.begin(), adapters_.end(),
                     [](const Adapter& adapter) { return adapter.a.trained() || adapter.b.trained(); });
}

Tensor Adapters::Narrow(const Context& context, const Adapter& adapter, const Tensor& x) const {
  const Tensor h = context.New({x.dim(0), adapter.a.shape()[0]});
  Matmul(context.device, x, Transpose::kNo, adapter.a.weight(), Transpose::kYes, h);
  Scale(context.device, h, scale_, h);
  return h;
}

Tensor Adapters::Wide(const Context& context, const Adapter& adapter, int64_t outputs) {
  const Tensor b = adapter.b.weight();
  if (b.dim(0) == outputs) return b;
  const Tensor wide = context.New({outputs, b.dim(1)});
  Fill(context.device, wide, 0);
  Cast(context.device, b, wide.Rows(adapter.first, adapter.first + b.dim(0)));
  return wide;
}

void Adapters::Forward(const Context& context, const Tensor& x, const Tensor& y) const {
  for (const Adapter& adapter : adapters_) {
    const Tensor change = context.New(y.shape());
    Matmul(context.device, Narrow(context, adapter, x), Transpose::kNo, Wide(context, adapter, y.dim(1)),
           Transpose::kYes, change);
    trefoil::Add(context.device, y, change, y);
  }
}

void Adapters::Backward(const Context& context, const Tensor& dy, const Tensor& x, const Tensor& dx,
                        WeightGradients& weights) const {
  Device& device = context.device;
  const int64_t outputs = dy.dim(1);
  for (const Adapter& adapter : adapters_) {
    const Tensor dh = context.New({dy.dim(0), adapter.a.shape()[0]});
    Matmul(device, dy, Transpose::kNo, Wide(context, adapter, outputs), Transpose::kNo, dh);
    Scale(device, dh, scale_, dh);
    {
      const Tensor change = context.New(dx.shape());
      Matmul(device, dh, Transpose::kNo, adapter.a.weight(), Transpose::kNo, change);
      trefoil::Add(device, dx, change, dx);
    }
    if (!adapter.a.trained() && !adapter.b.trained()) continue;
    // Weights are for the backward of the input only.
    const Tensor h = adapter.b.trained() ? Narrow(context, adapter, x) : Tensor();
    weights.Add([&context, &adapter, dy, x, dh, h, outputs] {
      WeightGradient(context.device, dh, x, adapter.a.gradient(), Tensor());
      if (!adapter.b.trained()) return;
      const Tensor d_b = adapter.b.gradient();
      if (d_b.dim(0) == outputs) return WeightGradient(context.device, dy, h, d_b, Tensor());
      const Tensor wide = context.NewFloat({outputs, d_b.dim(1)});
      Fill(context.device, wide, 0);
      WeightGradient(context.device, dy, h, wide, Tensor());
      trefoil::Add(context.device, d_b, wide.Rows(adapter.first, adapter.first + d_b.dim(0)), d_b);
    });
  }
}

}  // namespace trefoil
