#include <glog/logging.h>

#include <string>

#include "runtime/kernels/cuda/blas.h"

namespace trefoil::cuda {
namespace {

Tensor NewWorkspace(const CudaContext& cuda, DType dtype, const Shape& shape) {
  Arena::Block block =
      cuda.arena->Allocate(shape.elements() * static_cast<int64_t>(SizeOf(dtype)), Purpose::kWorkspace);
  return Tensor(std::move(block.owner), block.data, dtype, shape);
}

// out += bias in every row.
void AddBiasTo(const CudaContext& cuda, const Tensor& bias, const Tensor& out) {
  if (bias.dtype() == out.dtype()) return AddBias(cuda, out, bias);
  const Tensor wide = NewWorkspace(cuda, DType::kFloat32, bias.shape());
  Cast(cuda, bias, wide);
  AddBias(cuda, out, wide);
}

// out = bias in every row, or zero: a product over no elements.
void BiasOnly(const CudaContext& cuda, const Tensor& out, Accumulate accumulate, const Tensor& bias) {
  if (accumulate == Accumulate::kNo) Fill(cuda, out, 0);
  if (bias.defined()) AddBiasTo(cuda, bias, out);
}

std::string NoAlgorithm(const Tensor& a, const Tensor& b, const Tensor& out) {
  return "cuBLASLt has no algorithm for " + a.shape().ToString() + " x " + b.shape().ToString() + " of " +
         Name(a.dtype()) + " into " + out.shape().ToString() + " of " + Name(out.dtype());
}

}  // namespace

MatmulEngine::MatmulEngine() : blas_(std::make_unique<Blas>()) {}
MatmulEngine::~MatmulEngine() = default;

void MatmulEngine::Matmul(const CudaContext& cuda, const Tensor& a, Transpose transpose_a, const Tensor& b,
                          Transpose transpose_b, const Tensor& out, Accumulate accumulate, const Tensor& bias) {
  if (out.elements() == 0) return;
  if (a.elements() == 0) return BiasOnly(cuda, out, accumulate, bias);
  BlasProduct product = {.a = a,
                         .transpose_a = transpose_a,
                         .b = b,
                         .transpose_b = transpose_b,
                         .out = out,
                         .accumulate = accumulate};
  // The epilogue takes a bias of out's dtype only.
  if (bias.defined() && bias.dtype() == out.dtype()) {
    product.epilogue = CUBLASLT_EPILOGUE_BIAS;
    product.bias = bias;
    if (blas_->Multiply(cuda, product)) return;
    product.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  }
  CHECK(blas_->Multiply(cuda, product)) << NoAlgorithm(a, b, out);
  if (bias.defined()) AddBiasTo(cuda, bias, out);
}

void MatmulEngine::MatmulGelu(const CudaContext& cuda, const Tensor& a, const Tensor& b, const Tensor& bias,
                              const Tensor& before, const Tensor& out) {
  if (out.elements() == 0) return;
  if (a.elements() > 0 &&
      blas_->Multiply(cuda, {.a = a,
                             .b = b,
                             .transpose_b = Transpose::kYes,
                             .out = out,
                             .epilogue = bias.defined() ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX,
                             .bias = bias,
                             .before = before})) {
    return;
  }
  Matmul(cuda, a, Transpose::kNo, b, Transpose::kYes, before, Accumulate::kNo, bias);
  Activate(cuda, Activation::kGelu, before, out);
}

void MatmulEngine::MatmulGeluBackward(const CudaContext& cuda, const Tensor& dy, const Tensor& weight,
                                      const Tensor& before, const Tensor& dx, const Tensor& d_bias) {
  if (dx.elements() == 0) return;
  BlasProduct product = {.a = dy, .b = weight, .out = dx, .before = before};
  bool done = false;
  Tensor summed = dx;  // its columns' sums are the bias's gradient
  if (dy.elements() > 0 && d_bias.defined()) {
    // The epilogue overwrites, in dx's dtype.
    const Tensor sums = NewWorkspace(cuda, dx.dtype(), {1, dx.dim(1)});
    product.epilogue = CUBLASLT_EPILOGUE_DGELU_BGRAD;
    product.bias = sums;
    done = blas_->Multiply(cuda, product);
    if (done) summed = sums;
  }
  if (dy.elements() > 0 && !done) {
    product.epilogue = CUBLASLT_EPILOGUE_DGELU;
    done = blas_->Multiply(cuda, product);
  }
  if (!done) {
    Matmul(cuda, dy, Transpose::kNo, weight, Transpose::kNo, dx, Accumulate::kNo, Tensor());
    ActivateBackward(cuda, Activation::kGelu, dx, before, dx);
  }
  if (d_bias.defined()) BiasBackward(cuda, summed, d_bias);
}

void MatmulEngine::WeightGradient(const CudaContext& cuda, const Tensor& dy, const Tensor& x, const Tensor& d_weight,
                                  const Tensor& d_bias) {
  if (d_bias.defined() && dy.elements() > 0 && x.elements() > 0) {
    const Tensor sums = NewWorkspace(cuda, DType::kFloat32, {1, dy.dim(1)});
    if (blas_->Multiply(cuda, {.a = dy,
                               .transpose_a = Transpose::kYes,
                               .b = x,
                               .out = d_weight,
                               .accumulate = Accumulate::kYes,
                               .epilogue = CUBLASLT_EPILOGUE_BGRADB,
                               .bias = sums})) {
      return BiasBackward(cuda, sums, d_bias);
    }
  }
  Matmul(cuda, dy, Transpose::kYes, x, Transpose::kNo, d_weight, Accumulate::kYes, Tensor());
  if (d_bias.defined()) BiasBackward(cuda, dy, d_bias);
}

void MatmulEngine::MatmulFloat8(const CudaContext& cuda, const Tensor& a, const Tensor& a_scale, const Tensor& b,
                                const Tensor& b_scale, const Tensor& out, Accumulate accumulate, const Tensor& bias) {
  if (out.elements() == 0) return;
  if (a.elements() == 0) return BiasOnly(cuda, out, accumulate, bias);
  CHECK(blas_->Multiply(cuda, {.a = a,
                               .b = b,
                               .transpose_b = Transpose::kYes,
                               .out = out,
                               .accumulate = accumulate,
                               .epilogue = bias.defined() ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT,
                               .bias = bias,
                               .a_scale = a_scale,
                               .b_scale = b_scale}))
      << NoAlgorithm(a, b, out);
}

}  // namespace trefoil::cuda
