#include <cublasLt.h>
#include <glog/logging.h>

#include <compare>
#include <map>
#include <mutex>

#include "runtime/kernels/cuda.h"

namespace trefoil::cuda {
namespace {

void CheckCublas(cublasStatus_t status, const char* call) {
  CHECK(status == CUBLAS_STATUS_SUCCESS) << call << ": " << cublasLtGetStatusString(status);
}
#define TREFOIL_CUBLAS(call) CheckCublas((call), #call)

constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;  // what NVIDIA advises for sm_90; less would do before

cudaDataType_t TypeOf(DType dtype) { return dtype == DType::kBFloat16 ? CUDA_R_16BF : CUDA_R_32F; }

bool Aligned(const Tensor& x) { return reinterpret_cast<uintptr_t>(x.raw()) % 16 == 0; }

// What an algorithm's choice depends on.
struct Call {
  int64_t m, n, k;
  bool transpose_a, transpose_b, accumulate, bias;
  DType in, out;
  bool a_aligned, b_aligned, out_aligned;
  auto operator<=>(const Call&) const = default;
};

struct Product {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, out = nullptr;
  cublasLtMatmulAlgo_t algorithm = {};
};

// cuBLASLt's matrices are column-major, where ours is its transpose: out^T = op(b)^T op(a)^T, so our b comes first, and
// the columns of ours, which the bias follows, are its rows, as its bias epilogue wants.
Product Choose(cublasLtHandle_t handle, const Call& call) {
  Product product;
  // float32 stays float32: TF32 would keep 11 bits of each operand.
  TREFOIL_CUBLAS(cublasLtMatmulDescCreate(&product.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const cublasOperation_t first = call.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t second = call.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    TREFOIL_CUBLAS(cublasLtMatmulDescSetAttribute(product.operation, attribute, &value, sizeof(value)));
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, first);
  set(CUBLASLT_MATMUL_DESC_TRANSB, second);
  if (call.bias) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, TypeOf(call.out));
  }
  // A row-major [r, c] is a column-major c x r with leading dimension c.
  const auto layout = [](cublasLtMatrixLayout_t* made, DType dtype, int64_t r, int64_t c) {
    TREFOIL_CUBLAS(cublasLtMatrixLayoutCreate(made, TypeOf(dtype), static_cast<uint64_t>(c), static_cast<uint64_t>(r), c));
  };
  layout(&product.a, call.in, call.transpose_a ? call.k : call.m, call.transpose_a ? call.m : call.k);
  layout(&product.b, call.in, call.transpose_b ? call.n : call.k, call.transpose_b ? call.k : call.n);
  layout(&product.out, call.out, call.m, call.n);

  cublasLtMatmulPreference_t preference = nullptr;
  TREFOIL_CUBLAS(cublasLtMatmulPreferenceCreate(&preference));
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    TREFOIL_CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)));
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(kWorkspaceBytes));
  const auto alignment = [](bool aligned, DType dtype) { return static_cast<uint32_t>(aligned ? 16 : SizeOf(dtype)); };
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(call.b_aligned, call.in));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(call.a_aligned, call.in));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(call.out_aligned, call.out));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(call.out_aligned, call.out));
  cublasLtMatmulHeuristicResult_t result = {};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, product.operation, product.b, product.a,
                                                               product.out, product.out, preference, 1, &result, &found);
  CHECK(status == CUBLAS_STATUS_SUCCESS && found > 0)
      << "cuBLASLt has no algorithm for [" << call.m << ", " << call.k << "] x [" << call.k << ", " << call.n << "] of "
      << Name(call.in) << " into " << Name(call.out) << ": " << cublasLtGetStatusString(status);
  TREFOIL_CUBLAS(cublasLtMatmulPreferenceDestroy(preference));
  product.algorithm = result.algo;
  return product;
}

// out += bias in every row.
void AddBiasTo(const CudaContext& cuda, const Tensor& bias, const Tensor& out) {
  if (bias.dtype() == out.dtype()) return AddBias(cuda, out, bias);
  Arena::Block block = cuda.arena->Allocate(2 * bias.bytes(), Purpose::kWorkspace);
  const Tensor wide(std::move(block.owner), block.data, DType::kFloat32, bias.shape());
  Cast(cuda, bias, wide);
  AddBias(cuda, out, wide);
}

}  // namespace

struct MatmulEngine::Compiled {
  std::mutex mutex;
  cublasLtHandle_t handle = nullptr;  // made by the first call, on the device's thread
  std::map<Call, Product> products;
};

MatmulEngine::MatmulEngine() : compiled_(std::make_unique<Compiled>()) {}

MatmulEngine::~MatmulEngine() {
  for (const auto& [call, product] : compiled_->products) {
    cublasLtMatrixLayoutDestroy(product.a);
    cublasLtMatrixLayoutDestroy(product.b);
    cublasLtMatrixLayoutDestroy(product.out);
    cublasLtMatmulDescDestroy(product.operation);
  }
  if (compiled_->handle != nullptr) cublasLtDestroy(compiled_->handle);
}

void MatmulEngine::Matmul(const CudaContext& cuda, const Tensor& a, Transpose transpose_a, const Tensor& b,
                          Transpose transpose_b, const Tensor& out, Accumulate accumulate, const Tensor& bias) {
  if (out.elements() == 0) return;
  if (a.elements() == 0) {  // a product over no elements
    if (accumulate == Accumulate::kNo) Fill(cuda, out, 0);
    if (bias.defined()) AddBiasTo(cuda, bias, out);
    return;
  }
  // The epilogue takes a bias of out's dtype only.
  const bool fused = bias.defined() && bias.dtype() == out.dtype();
  const bool ta = transpose_a == Transpose::kYes, tb = transpose_b == Transpose::kYes;
  const Call call = {.m = out.dim(0),
                     .n = out.dim(1),
                     .k = a.dim(ta ? 0 : 1),
                     .transpose_a = ta,
                     .transpose_b = tb,
                     .accumulate = accumulate == Accumulate::kYes,
                     .bias = fused,
                     .in = a.dtype(),
                     .out = out.dtype(),
                     .a_aligned = Aligned(a),
                     .b_aligned = Aligned(b),
                     .out_aligned = Aligned(out)};
  {
    const Arena::Block workspace = cuda.arena->Allocate(kWorkspaceBytes, Purpose::kWorkspace);
    const float one = 1, beta = call.accumulate ? 1 : 0;
    const std::lock_guard lock(compiled_->mutex);
    if (compiled_->handle == nullptr) TREFOIL_CUBLAS(cublasLtCreate(&compiled_->handle));
    auto found = compiled_->products.find(call);
    if (found == compiled_->products.end()) {
      found = compiled_->products.emplace(call, Choose(compiled_->handle, call)).first;
    }
    const Product& product = found->second;
    if (fused) {
      const void* pointer = bias.raw();
      TREFOIL_CUBLAS(cublasLtMatmulDescSetAttribute(product.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &pointer,
                                                    sizeof(pointer)));
    }
    TREFOIL_CUBLAS(cublasLtMatmul(compiled_->handle, product.operation, &one, b.raw(), product.b, a.raw(), product.a,
                                  &beta, out.raw(), product.out, out.raw(), product.out, &product.algorithm,
                                  workspace.data, static_cast<size_t>(kWorkspaceBytes), cuda.stream));
  }
  if (bias.defined() && !fused) AddBiasTo(cuda, bias, out);
}

}  // namespace trefoil::cuda
