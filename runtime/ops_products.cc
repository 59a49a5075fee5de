// Products of matrices and what goes with them: their biases, quantization.
#include "runtime/op_run.h"
#include "runtime/ops.h"

namespace trefoil {
namespace {

void CheckFloat8(const char* name, const Tensor& tensor) {
  CHECK(tensor.defined()) << name << " is undefined";
  CHECK(IsFloat8(tensor.dtype())) << name << " is " << Name(tensor.dtype()) << ", must be fp8";
  CHECK_EQ(tensor.shape().rank(), 2) << name << " is " << tensor.shape();
}

}  // namespace

void Matmul(Device& device, const Tensor& a, Transpose transpose_a, const Tensor& b, Transpose transpose_b,
            const Tensor& out, Accumulate accumulate, const Tensor& bias) {
  CheckActivation("a", a, 2);
  const bool ta = transpose_a == Transpose::kYes, tb = transpose_b == Transpose::kYes;
  const int64_t m = a.dim(ta ? 1 : 0), k = a.dim(ta ? 0 : 1);
  CheckActivation("b", b, 2);
  const int64_t n = b.dim(tb ? 0 : 1);
  Check("b", b, a.dtype(), tb ? Shape{n, k} : Shape{k, n});
  CheckActivation("out", out, 2);
  Check("out", out, out.dtype() == kFloat ? kFloat : a.dtype(), {m, n});
  CHECK(accumulate == Accumulate::kNo || out.dtype() == kFloat) << "accumulation is only into float32";
  if (bias.defined()) Check("bias", bias, a.dtype(), {n});
  const double read = accumulate == Accumulate::kYes ? out.bytes() : 0;
  RunProduct(device, "matmul", m, n, k, Bytes({&a, &b, &out, &bias}) + read,
      [&](Kernels& kernels) { kernels.Matmul(a, transpose_a, b, transpose_b, out, accumulate, bias); });
}

void MatmulActivate(Device& device, Activation activation, const Tensor& a, const Tensor& b, const Tensor& bias,
                    const Tensor& before, const Tensor& out) {
  if (activation != Activation::kGelu) {
    Matmul(device, a, Transpose::kNo, b, Transpose::kYes, before, Accumulate::kNo, bias);
    return Activate(device, activation, before, out);
  }
  CheckActivation("a", a, 2);
  CheckActivation("b", b, 2);
  const int64_t m = a.dim(0), k = a.dim(1), n = b.dim(0);
  Check("b", b, a.dtype(), {n, k});
  if (bias.defined()) Check("bias", bias, a.dtype(), {n});
  Check("before", before, a.dtype(), {m, n});
  Check("out", out, a.dtype(), {m, n});
  RunProduct(device, "matmul_gelu", m, n, k, Bytes({&a, &b, &bias, &before, &out}),
      [&](Kernels& kernels) { kernels.MatmulGelu(a, b, bias, before, out); });
}

void MatmulActivateBackward(Device& device, Activation activation, const Tensor& dy, const Tensor& weight,
                            const Tensor& before, const Tensor& dx, const Tensor& d_bias) {
  if (activation != Activation::kGelu) {
    Matmul(device, dy, Transpose::kNo, weight, Transpose::kNo, dx);
    ActivateBackward(device, activation, dx, before, dx);
    if (d_bias.defined()) BiasBackward(device, dx, d_bias);
    return;
  }
  CheckActivation("dy", dy, 2);
  CheckActivation("weight", weight, 2);
  const int64_t m = dy.dim(0), k = dy.dim(1), n = weight.dim(1);
  Check("weight", weight, dy.dtype(), {k, n});
  Check("before", before, dy.dtype(), {m, n});
  Check("dx", dx, dy.dtype(), {m, n});
  if (d_bias.defined()) Check("d_bias", d_bias, kFloat, {n});
  RunProduct(device, "matmul_gelu_backward", m, n, k, Bytes({&dy, &weight, &before, &dx, &d_bias, &d_bias}),
      [&](Kernels& kernels) { kernels.MatmulGeluBackward(dy, weight, before, dx, d_bias); });
}

void WeightGradient(Device& device, const Tensor& dy, const Tensor& x, const Tensor& d_weight, const Tensor& d_bias) {
  CheckActivation("dy", dy, 2);
  if (!d_weight.defined()) return BiasBackward(device, dy, d_bias);
  CheckActivation("x", x, 2);
  const int64_t m = dy.dim(0), n = dy.dim(1), k = x.dim(1);
  Check("x", x, dy.dtype(), {m, k});
  Check("d_weight", d_weight, kFloat, {n, k});
  if (d_bias.defined()) Check("d_bias", d_bias, kFloat, {n});
  RunProduct(device, "weight_gradient", m, n, k, Bytes({&dy, &x, &d_weight, &d_weight, &d_bias, &d_bias}),
      [&](Kernels& kernels) { kernels.WeightGradient(dy, x, d_weight, d_bias); });
}

void Quantize(Device& device, const Tensor& x, const Tensor& out, const Tensor& out_transposed, const Tensor& scale) {
  CheckActivation("x", x, 2);
  const Tensor& either = out.defined() ? out : out_transposed;
  CheckFloat8("out", either);
  if (out.defined()) Check("out", out, either.dtype(), x.shape());
  if (out_transposed.defined()) Check("out_transposed", out_transposed, either.dtype(), {x.dim(1), x.dim(0)});
  Check("scale", scale, kFloat, {1});
  Run(device, "quantize", 2.0 * x.elements(), Bytes({&x, &x, &out, &out_transposed, &scale}),
      [&](Kernels& kernels) { kernels.Quantize(x, out, out_transposed, scale); });
}

void MatmulFloat8(Device& device, const Tensor& a, const Tensor& a_scale, const Tensor& b, const Tensor& b_scale,
                  const Tensor& out, Accumulate accumulate, const Tensor& bias) {
  CheckFloat8("a", a);
  CheckFloat8("b", b);
  CHECK(a.dtype() != DType::kFloat8E5M2 || b.dtype() != DType::kFloat8E5M2) << "a or b must be e4m3";
  const int64_t m = a.dim(0), k = a.dim(1), n = b.dim(0);
  Check("b", b, b.dtype(), {n, k});
  CHECK(n % 16 == 0 && k % 16 == 0) << "b is " << b.shape() << ", both must be multiples of 16";
  Check("a_scale", a_scale, kFloat, {1});
  Check("b_scale", b_scale, kFloat, {1});
  CheckActivation("out", out, 2);
  Check("out", out, out.dtype(), {m, n});
  CHECK(accumulate == Accumulate::kNo || out.dtype() == kFloat) << "accumulation is only into float32";
  if (bias.defined()) Check("bias", bias, DType::kBFloat16, {n});
  const double read = accumulate == Accumulate::kYes ? out.bytes() : 0;
  RunProduct(device, "matmul_float8", m, n, k, Bytes({&a, &a_scale, &b, &b_scale, &out, &bias}) + read,
      [&](Kernels& kernels) { kernels.MatmulFloat8(a, a_scale, b, b_scale, out, accumulate, bias); });
}

void BiasBackward(Device& device, const Tensor& dy, const Tensor& d_bias) {
  if (!d_bias.defined()) return;
  CheckActivation("dy", dy, 2);
  Check("d_bias", d_bias, kFloat, {dy.dim(1)});
  Run(device, "bias_backward", dy.elements(), Bytes({&dy, &d_bias, &d_bias}),
      [&](Kernels& kernels) { kernels.BiasBackward(dy, d_bias); });
}

void AddBias(Device& device, const Tensor& x, const Tensor& bias) {
  CheckActivation("x", x, 2);
  Check("bias", bias, x.dtype(), {x.dim(1)});
  Run(device, "add_bias", x.elements(), Bytes({&x, &x, &bias}), [&](Kernels& kernels) { kernels.AddBias(x, bias); });
}

}  // namespace trefoil
