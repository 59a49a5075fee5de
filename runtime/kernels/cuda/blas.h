// Matrix products by cuBLASLt, with what it can fuse to them. Plans (descriptors and the algorithm) are made once per
// kind of call and kept.
//
// Threads: any; each queues on the stream of its own context.
#pragma once

#include <cublasLt.h>

#include <map>
#include <mutex>

#include "runtime/kernels/cuda/cuda.h"
#include "runtime/tensor.h"

namespace trefoil::cuda {

// out = op(a) op(b), or out += ..., row-major as in runtime/ops.h; then the epilogue. To cuBLASLt, whose matrices are
// column-major, it is out^T = op(b)^T op(a)^T: its A is our b, its B our a, and the rows of its result our columns. So
// BIAS adds to our columns, DGELU_BGRAD adds up our columns, and BGRADB adds up the rows of op(a).
struct BlasProduct {
  Tensor a;
  Transpose transpose_a = Transpose::kNo;
  Tensor b;
  Transpose transpose_b = Transpose::kNo;
  Tensor out;  // not empty, nor are a and b
  Accumulate accumulate = Accumulate::kNo;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  // Of epilogues with a bias: added; of those with a bias gradient: overwritten. out's dtype; bfloat16 in fp8 products.
  Tensor bias = {};
  Tensor before = {};            // of GELU_AUX: written; of DGELU: read. out's shape and dtype
  Tensor a_scale = {}, b_scale = {};  // of fp8 a and b
};

class Blas {
 public:
  Blas() = default;
  Blas(const Blas&) = delete;
  ~Blas();

  // Queues the product. False, with nothing queued, if cuBLASLt has none of the kind: an epilogue may be missing for a
  // dtype, a shape, an alignment or a GPU.
  bool Multiply(const CudaContext& cuda, const BlasProduct& product);

 private:
  // What the choice of an algorithm depends on.
  struct Kind {
    int64_t m, n, k;
    Transpose transpose_a, transpose_b;
    Accumulate accumulate;
    cublasLtEpilogue_t epilogue;
    DType a, b, out;
    bool a_aligned, b_aligned, out_aligned, bias_aligned, before_aligned;
    auto operator<=>(const Kind&) const = default;
  };
  struct Plan {
    bool exists = false;
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, out = nullptr;
    cublasLtMatmulAlgo_t algorithm = {};
  };
  static Kind KindOf(const BlasProduct& product);
  Plan Choose(const Kind& kind);

  std::mutex mutex_;
  cublasLtHandle_t handle_ = nullptr;  // made by the first call, on the device's thread
  std::map<Kind, Plan> plans_;
};

}  // namespace trefoil::cuda
