#include <glog/logging.h>

#include <string>

#include "runtime/kernels/cuda/blas.h"
#include "runtime/kernels/cuda/workspace.h"

namespace trefoil::cuda {
namespace {

void CheckCublas(cublasStatus_t status, const char* call) {
  CHECK(status == CUBLAS_STATUS_SUCCESS) << call << ": " << cublasLtGetStatusString(status);
}
#define TREFOIL_CUBLAS(call) CheckCublas((call), #call)

cudaDataType_t TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat8E4M3:
      return CUDA_R_8F_E4M3;
    case DType::kFloat8E5M2:
      return CUDA_R_8F_E5M2;
    case DType::kBFloat16:
      return CUDA_R_16BF;
    default:
      return CUDA_R_32F;
  }
}

bool Aligned(const Tensor& x) { return reinterpret_cast<uintptr_t>(x.raw()) % 16 == 0; }
uint32_t Alignment(bool aligned, DType dtype) { return static_cast<uint32_t>(aligned ? 16 : SizeOf(dtype)); }

template <typename T>
void Set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  TREFOIL_CUBLAS(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(value)));
}
// An address of that alignment, for the choice of an algorithm: no one reads it.
const void* AddressOf(uint32_t alignment) { return reinterpret_cast<const void*>(uintptr_t{alignment}); }

bool HasBias(cublasLtEpilogue_t epilogue) {
  constexpr int kGradient = CUBLASLT_EPILOGUE_DGELU_BGRAD & ~CUBLASLT_EPILOGUE_DGELU;
  return (epilogue & (CUBLASLT_EPILOGUE_BIAS | kGradient | CUBLASLT_EPILOGUE_BGRADA | CUBLASLT_EPILOGUE_BGRADB)) != 0;
}
bool HasBefore(cublasLtEpilogue_t epilogue) {
  constexpr int kAux = CUBLASLT_EPILOGUE_GELU_AUX & ~CUBLASLT_EPILOGUE_GELU;
  return (epilogue & kAux) != 0;
}

}  // namespace

Blas::~Blas() {
  for (const auto& [kind, plan] : plans_) {
    if (plan.operation == nullptr) continue;
    cublasLtMatrixLayoutDestroy(plan.a);
    cublasLtMatrixLayoutDestroy(plan.b);
    cublasLtMatrixLayoutDestroy(plan.out);
    cublasLtMatmulDescDestroy(plan.operation);
  }
  if (handle_ != nullptr) cublasLtDestroy(handle_);
}

Blas::Kind Blas::KindOf(const BlasProduct& product) {
  return {.m = product.out.dim(0),
          .n = product.out.dim(1),
          .k = product.a.dim(product.transpose_a == Transpose::kYes ? 0 : 1),
          .transpose_a = product.transpose_a,
          .transpose_b = product.transpose_b,
          .accumulate = product.accumulate,
          .epilogue = product.epilogue,
          .a = product.a.dtype(),
          .b = product.b.dtype(),
          .out = product.out.dtype(),
          .a_aligned = Aligned(product.a),
          .b_aligned = Aligned(product.b),
          .out_aligned = Aligned(product.out),
          .bias_aligned = Aligned(product.bias),
          .before_aligned = Aligned(product.before)};
}

Blas::Plan Blas::Choose(const Kind& kind) {
  Plan plan;
  // The rows of `before` must take a multiple of 8 elements (cublasLt.h, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD).
  if (HasBefore(kind.epilogue) && (kind.n % 8 != 0 || !kind.before_aligned)) return plan;
  // float32 stays float32: TF32 would keep 11 bits of each operand.
  TREFOIL_CUBLAS(cublasLtMatmulDescCreate(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const bool ta = kind.transpose_a == Transpose::kYes, tb = kind.transpose_b == Transpose::kYes;
  Set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, tb ? CUBLAS_OP_T : CUBLAS_OP_N);
  Set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, ta ? CUBLAS_OP_T : CUBLAS_OP_N);
  Set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, kind.epilogue);
  if (HasBias(kind.epilogue)) {
    const DType bias = IsFloat8(kind.a) ? DType::kBFloat16 : kind.out;
    Set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, TypeOf(bias));
    Set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, AddressOf(Alignment(kind.bias_aligned, bias)));
  }
  if (HasBefore(kind.epilogue)) {
    Set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, kind.n);
    Set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, AddressOf(16));
  }
  // A row-major [r, c] is a column-major c x r with leading dimension c.
  const auto layout = [](cublasLtMatrixLayout_t* made, DType dtype, int64_t r, int64_t c) {
    TREFOIL_CUBLAS(cublasLtMatrixLayoutCreate(made, TypeOf(dtype), static_cast<uint64_t>(c), static_cast<uint64_t>(r), c));
  };
  layout(&plan.a, kind.a, ta ? kind.k : kind.m, ta ? kind.m : kind.k);
  layout(&plan.b, kind.b, tb ? kind.n : kind.k, tb ? kind.k : kind.n);
  layout(&plan.out, kind.out, kind.m, kind.n);

  cublasLtMatmulPreference_t preference = nullptr;
  TREFOIL_CUBLAS(cublasLtMatmulPreferenceCreate(&preference));
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    TREFOIL_CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)));
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(kBlasWorkspaceBytes));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, Alignment(kind.b_aligned, kind.b));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, Alignment(kind.a_aligned, kind.a));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, Alignment(kind.out_aligned, kind.out));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, Alignment(kind.out_aligned, kind.out));
  cublasLtMatmulHeuristicResult_t result = {};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle_, plan.operation, plan.b, plan.a, plan.out,
                                                               plan.out, preference, 1, &result, &found);
  TREFOIL_CUBLAS(cublasLtMatmulPreferenceDestroy(preference));
  plan.exists = status == CUBLAS_STATUS_SUCCESS && found > 0 && result.state == CUBLAS_STATUS_SUCCESS;
  plan.algorithm = result.algo;
  return plan;
}

bool Blas::Multiply(const CudaContext& cuda, const BlasProduct& product) {
  const Kind kind = KindOf(product);
  const Arena::Block workspace = cuda.arena->Allocate(kBlasWorkspaceBytes, Purpose::kWorkspace);
  const std::lock_guard lock(mutex_);
  if (handle_ == nullptr) TREFOIL_CUBLAS(cublasLtCreate(&handle_));
  auto found = plans_.find(kind);
  if (found == plans_.end()) found = plans_.emplace(kind, Choose(kind)).first;
  Plan& plan = found->second;
  if (!plan.exists) return false;
  if (HasBias(kind.epilogue)) Set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias.raw());
  if (HasBefore(kind.epilogue)) Set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, product.before.raw());
  if (IsFloat8(kind.a)) {
    Set(plan.operation, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, product.b_scale.raw());
    Set(plan.operation, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, product.a_scale.raw());
  }
  const float one = 1, beta = kind.accumulate == Accumulate::kYes ? 1 : 0;
  const cublasStatus_t status =
      cublasLtMatmul(handle_, plan.operation, &one, product.b.raw(), plan.b, product.a.raw(), plan.a, &beta,
                     product.out.raw(), plan.out, product.out.raw(), plan.out, &plan.algorithm, workspace.data,
                     static_cast<size_t>(kBlasWorkspaceBytes), cuda.stream);
  // The choice is no promise that the product runs (cublasLt.h, cublasLtMatmulAlgoCheck).
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) {
    LOG(WARNING) << "cuBLASLt refuses its own choice for [" << kind.m << ", " << kind.k << "] x [" << kind.k << ", "
                 << kind.n << "] of " << Name(kind.a) << " into " << Name(kind.out) << ", epilogue " << kind.epilogue
                 << ": " << cublasLtGetStatusString(status);
    plan.exists = false;
    return false;
  }
  CheckCublas(status, "cublasLtMatmul");
  return true;
}

}  // namespace trefoil::cuda
