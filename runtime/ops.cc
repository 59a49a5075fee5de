// Elements one by one: sums, conversions, initial values, the optimizer. Products are in ops_products.cc, what layers do
// in ops_layers.cc.
#include "runtime/ops.h"

#include <utility>

#include "runtime/op_run.h"

namespace trefoil {

void Add(Device& device, const Tensor& a, const Tensor& b, const Tensor& out) {
  CheckActivation("a", a, kAnyRank);
  Check("b", b, a.dtype(), a.shape());
  Check("out", out, a.dtype(), a.shape());
  Run(device, "add", a.elements(), Bytes({&a, &b, &out}), [&](Kernels& kernels) { kernels.Add(a, b, out); });
}

void Scale(Device& device, const Tensor& x, float factor, const Tensor& y) {
  CheckActivation("x", x, kAnyRank);
  Check("y", y, x.dtype(), x.shape());
  Run(device, "scale", x.elements(), Bytes({&x, &y}), [&](Kernels& kernels) { kernels.Scale(x, factor, y); });
}

void SumParts(Device& device, const Tensor& parts, const Tensor& out) {
  CheckActivation("parts", parts, 2);
  CHECK_GE(parts.dim(0), 1);
  CHECK_LT(parts.dim(0), int64_t{1} << kSumPartsLevels);
  Check("out", out, parts.dtype(), {parts.dim(1)});
  Run(device, "sum_parts", parts.elements(), Bytes({&parts, &out}),
      [&](Kernels& kernels) { kernels.SumParts(parts, out); });
}

void Cast(Device& device, const Tensor& in, const Tensor& out) {
  CheckActivation("in", in, kAnyRank);
  CheckActivation("out", out, kAnyRank);
  Check("out", out, out.dtype(), in.shape());
  Run(device, "cast", 0, Bytes({&in, &out}), [&](Kernels& kernels) { kernels.Cast(in, out); });
}

void CopyColumns(Device& device, const HeadColumns& from, int64_t columns, const HeadColumns& to) {
  const int64_t rows = from.rows.dim(0);
  double bytes = 0;
  for (const auto& [name, x] : {std::pair("from", &from), std::pair("to", &to)}) {
    CheckActivation(name, x->rows, 2);
    Check(name, x->rows, x->rows.dtype(), {rows, x->rows.dim(1)});
    CHECK_GE(x->first, 0) << name;
    CHECK_LE(x->first + columns, x->rows.dim(1)) << name << ": columns beyond the last";
    bytes += static_cast<double>(rows * columns) * static_cast<double>(SizeOf(x->rows.dtype()));
  }
  Run(device, "copy_columns", 0, {bytes, to.rows.dtype()},
      [&](Kernels& kernels) { kernels.CopyColumns(from, columns, to); });
}

void Fill(Device& device, const Tensor& x, float value) {
  CheckActivation("x", x, kAnyRank);
  Run(device, "fill", 0, Bytes({&x}), [&](Kernels& kernels) { kernels.Fill(x, value); });
}

namespace {

ExactSums AddUp(Device& device, const char* op, std::span<const Tensor> summed, std::span<const Tensor> squared) {
  double flops = 0, bytes = 0;
  for (const Tensor& x : summed) {
    CheckActivation("summed", x, kAnyRank);
    flops += static_cast<double>(x.elements());
    bytes += Bytes({&x}).bytes;
  }
  for (const Tensor& x : squared) {
    CheckActivation("squared", x, kAnyRank);
    flops += 2.0 * static_cast<double>(x.elements());
    bytes += Bytes({&x}).bytes;
  }
  ExactSums sums;
  Run(device, op, flops, {bytes}, [&](Kernels& kernels) { sums = kernels.Sums(summed, squared); });
  return sums;
}

}  // namespace

ExactSums Sums(Device& device, std::span<const Tensor> summed, std::span<const Tensor> squared) {
  return AddUp(device, "sums", summed, squared);
}

double Sum(Device& device, const Tensor& x) { return AddUp(device, "sum", {&x, 1}, {}).sum.value(); }

double SumOfSquares(Device& device, const Tensor& x) {
  return AddUp(device, "sum_of_squares", {}, {&x, 1}).sum_of_squares.value();
}

void FillNormal(Device& device, const Tensor& x, const Shape& global, const Shape& offset, uint64_t key,
                float deviation) {
  Check("x", x, kFloat, x.shape());
  CHECK_EQ(global.rank(), x.shape().rank());
  CHECK_EQ(offset.rank(), x.shape().rank());
  for (int i = 0; i < global.rank(); ++i) {
    CHECK_LE(offset[i] + x.dim(i), global[i]) << "slice " << x.shape() << " at " << offset << " of " << global;
  }
  Run(device, "fill_normal", 0, Bytes({&x}),
      [&](Kernels& kernels) { kernels.FillNormal(x, global, offset, key, deviation); });
}

void AdamW(Device& device, std::span<const AdamWPart> parts, const AdamWStep& step) {
  const Tensor* working = nullptr;  // of the first part that has one
  double flops = 0, bytes = 0;
  for (const AdamWPart& part : parts) {
    const Shape& shape = part.weight.shape();
    CheckActivation("weight", part.weight, 1);
    Check("weight", part.weight, kFloat, shape);
    Check("gradient", part.gradient, kFloat, shape);
    Check("m", part.m, kFloat, shape);
    Check("v", part.v, kFloat, shape);
    if (part.working.defined()) {
      CheckActivation("working", part.working, 1);
      if (working == nullptr) working = &part.working;
      Check("working", part.working, working->dtype(), shape);
    }
    flops += 15.0 * static_cast<double>(part.weight.elements());
    bytes += Bytes({&part.weight, &part.weight, &part.gradient, &part.m, &part.m, &part.v, &part.v, &part.working})
                 .bytes;
  }
  CHECK_GE(step.step, 1);
  Run(device, "adamw", flops, {bytes}, [&](Kernels& kernels) { kernels.AdamW(parts, step); });
}

}  // namespace trefoil
