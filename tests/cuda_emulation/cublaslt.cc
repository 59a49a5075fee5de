// The part of cuBLASLt that the matrix products use, as its header and guide define it: column-major matrices, epilogues,
// fp8 with scales. It refuses what the guide says is not supported, so that fallbacks run too; what the real library
// refuses beyond that shows only on a GPU.
#include <cublasLt.h>
#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/dtype.h"
#include "tests/cuda_emulation/stream.h"

namespace {

using trefoil::BFloat16;

// A descriptor: attributes by number.
struct Attributes {
  std::map<int, std::vector<char>> values;

  template <typename T>
  T Get(int attribute, T otherwise) const {
    const auto found = values.find(attribute);
    if (found == values.end()) return otherwise;
    CHECK_EQ(found->second.size(), sizeof(T)) << "attribute " << attribute << " has the wrong size";
    T value;
    std::memcpy(&value, found->second.data(), sizeof(T));
    return value;
  }
  void Set(int attribute, const void* value, size_t bytes) {
    const auto* start = static_cast<const char*>(value);
    values[attribute].assign(start, start + bytes);
  }
};

struct Description : Attributes {
  cudaDataType_t scale = CUDA_R_32F;
};
struct Matrix {
  cudaDataType_t type;
  int64_t rows, columns, leading;
};

const Description& Of(cublasLtMatmulDesc_t x) { return *reinterpret_cast<const Description*>(x); }
const Matrix& Of(cublasLtMatrixLayout_t x) { return *reinterpret_cast<const Matrix*>(x); }

size_t SizeOf(cudaDataType_t type) {
  switch (type) {
    case CUDA_R_32F:
      return 4;
    case CUDA_R_16BF:
      return 2;
    case CUDA_R_8F_E4M3:
    case CUDA_R_8F_E5M2:
      return 1;
    default:
      LOG(FATAL) << "type " << type;
  }
}
bool IsFp8(cudaDataType_t type) { return SizeOf(type) == 1; }

// OCP 8-bit floating point, by its definition.
float FromFp8(uint8_t bits, bool e5m2) {
  const int mantissa_bits = e5m2 ? 2 : 3, bias = e5m2 ? 15 : 7;
  const int exponent = (bits & 0x7f) >> mantissa_bits, mantissa = bits & ((1 << mantissa_bits) - 1);
  const float sign = bits & 0x80 ? -1.0f : 1.0f;
  if (e5m2 && exponent == 31) return mantissa == 0 ? sign * INFINITY : NAN;
  if (!e5m2 && (bits & 0x7f) == 0x7f) return NAN;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), 1 - bias - mantissa_bits);
  return sign * std::ldexp(static_cast<float>(mantissa + (1 << mantissa_bits)), exponent - bias - mantissa_bits);
}

float Read(const void* data, cudaDataType_t type, int64_t i) {
  switch (type) {
    case CUDA_R_32F:
      return static_cast<const float*>(data)[i];
    case CUDA_R_16BF:
      return static_cast<float>(static_cast<const BFloat16*>(data)[i]);
    default:
      return FromFp8(static_cast<const uint8_t*>(data)[i], type == CUDA_R_8F_E5M2);
  }
}
void Write(void* data, cudaDataType_t type, int64_t i, float value) {
  if (type == CUDA_R_32F) {
    static_cast<float*>(data)[i] = value;
  } else {
    CHECK_EQ(type, CUDA_R_16BF);
    static_cast<BFloat16*>(data)[i] = BFloat16(value);
  }
}

// The operation with everything read out of its descriptors.
struct Product {
  Matrix a, b, c, d;
  bool transpose_a, transpose_b;
  int64_t m, n, k;
  uint32_t epilogue;
  void *bias, *aux;
  int64_t aux_leading;
  cudaDataType_t bias_type;
  const float *a_scale, *b_scale;

  bool Has(uint32_t bit) const { return (epilogue & bit) != 0; }
  bool adds_bias() const { return Has(CUBLASLT_EPILOGUE_BIAS); }
  bool gelu() const { return Has(32); }
  bool d_gelu() const { return Has(64); }
  bool has_aux() const { return Has(128); }
  bool bias_gradient() const { return Has(16); }
  bool bias_gradient_a() const { return epilogue == CUBLASLT_EPILOGUE_BGRADA; }
  bool bias_gradient_b() const { return epilogue == CUBLASLT_EPILOGUE_BGRADB; }
};

Product ReadOut(const Description& x, const Matrix& a, const Matrix& b, const Matrix& c, const Matrix& d) {
  Product p = {.a = a, .b = b, .c = c, .d = d, .transpose_a = false, .transpose_b = false, .m = d.rows, .n = d.columns,
               .k = 0, .epilogue = 0, .bias = nullptr, .aux = nullptr, .aux_leading = 0, .bias_type = d.type,
               .a_scale = nullptr, .b_scale = nullptr};
  p.transpose_a = x.Get(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_N) == CUBLAS_OP_T;
  p.transpose_b = x.Get(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N) == CUBLAS_OP_T;
  p.k = p.transpose_a ? a.rows : a.columns;
  p.epilogue = x.Get(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT);
  p.bias = x.Get<void*>(CUBLASLT_MATMUL_DESC_BIAS_POINTER, nullptr);
  p.aux = x.Get<void*>(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, nullptr);
  p.aux_leading = x.Get<int64_t>(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, 0);
  p.bias_type = x.Get(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, d.type);
  p.a_scale = x.Get<const float*>(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, nullptr);
  p.b_scale = x.Get<const float*>(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, nullptr);
  return p;
}

// Null if the guide allows it, else what it does not allow.
const char* Refusal(const Product& p) {
  if ((p.transpose_a ? p.a.columns : p.a.rows) != p.m) return "rows of op(A)";
  if ((p.transpose_b ? p.b.rows : p.b.columns) != p.n) return "columns of op(B)";
  if ((p.transpose_b ? p.b.columns : p.b.rows) != p.k) return "inner dim";
  if (p.c.rows != p.m || p.c.columns != p.n || p.c.type != p.d.type) return "C unlike D";
  for (const Matrix* x : {&p.a, &p.b, &p.c, &p.d}) {
    if (x->leading < x->rows) return "leading dimension";
  }
  const bool fp8 = IsFp8(p.a.type);
  if (fp8 != IsFp8(p.b.type)) return "fp8 with another type";
  if (fp8) {
    if (p.a.type == CUDA_R_8F_E5M2 && p.b.type == CUDA_R_8F_E5M2) return "e5m2 times e5m2";
    if (!p.transpose_a || p.transpose_b) return "fp8 other than A^T B";
    if (p.m % 16 != 0 || p.k % 16 != 0 || p.a.leading % 16 != 0 || p.b.leading % 16 != 0) return "fp8 dims";
  } else if (p.a.type != p.b.type) {
    return "A unlike B";
  }
  if (p.a.type == CUDA_R_32F && p.d.type != CUDA_R_32F) return "narrower output";
  const bool plain = p.epilogue == CUBLASLT_EPILOGUE_DEFAULT;
  const bool uses_bias = p.adds_bias() || p.bias_gradient() || p.bias_gradient_a() || p.bias_gradient_b();
  if (p.a.type == CUDA_R_32F && !plain && p.epilogue != CUBLASLT_EPILOGUE_BIAS) return "epilogue of float32";
  if (uses_bias && p.bias == nullptr) return "bias pointer";
  if (uses_bias && !fp8 && p.bias_type != p.d.type) return "bias type";
  if (fp8 && uses_bias && p.bias_type != CUDA_R_16BF) return "fp8 bias type";
  if (p.has_aux() && (p.aux == nullptr || p.aux_leading < p.m || p.aux_leading % 8 != 0)) return "aux";
  if (p.has_aux() && reinterpret_cast<uintptr_t>(p.aux) % 16 != 0) return "aux alignment";
  if (p.has_aux() && fp8) return "aux of fp8";
  return nullptr;
}

float Gelu(float x) { return 0.5f * x * (1 + std::tanh(0.7978845608028654f * (x + 0.044715f * x * x * x))); }
float GeluSlope(float x) {
  const float u = 0.7978845608028654f * (x + 0.044715f * x * x * x), t = std::tanh(u);
  return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.7978845608028654f * (1 + 3 * 0.044715f * x * x);
}

void Compute(const Product& p, float alpha, const void* a, const void* b, float beta, const void* c, void* d) {
  std::vector<float> wide_a(p.m * p.k), wide_b(p.k * p.n);
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t l = 0; l < p.k; ++l) {
      wide_a[l * p.m + i] = Read(a, p.a.type, p.transpose_a ? l + i * p.a.leading : i + l * p.a.leading);
    }
  }
  for (int64_t j = 0; j < p.n; ++j) {
    for (int64_t l = 0; l < p.k; ++l) {
      wide_b[j * p.k + l] = Read(b, p.b.type, p.transpose_b ? j + l * p.b.leading : l + j * p.b.leading);
    }
  }
  if (p.a_scale != nullptr) alpha *= *p.a_scale;
  if (p.b_scale != nullptr) alpha *= *p.b_scale;
  std::vector<float> bias_gradient(p.bias_gradient_b() ? p.n : p.m);
  std::vector<float> sums(p.m);
  for (int64_t j = 0; j < p.n; ++j) {
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (int64_t l = 0; l < p.k; ++l) {
      for (int64_t i = 0; i < p.m; ++i) sums[i] += wide_a[l * p.m + i] * wide_b[j * p.k + l];
    }
    for (int64_t i = 0; i < p.m; ++i) {
      float value = alpha * sums[i];
      if (beta != 0) value += beta * Read(c, p.c.type, i + j * p.c.leading);
      if (p.adds_bias()) value += Read(p.bias, p.bias_type, i);
      if (p.gelu()) {
        if (p.has_aux()) Write(p.aux, p.d.type, i + j * p.aux_leading, value);
        value = Gelu(value);
      }
      if (p.d_gelu()) value *= GeluSlope(Read(p.aux, p.d.type, i + j * p.aux_leading));
      if (p.bias_gradient()) bias_gradient[i] += value;
      Write(d, p.d.type, i + j * p.d.leading, value);
    }
  }
  if (p.bias_gradient_a()) {
    for (int64_t i = 0; i < p.m * p.k; ++i) bias_gradient[i % p.m] += wide_a[i];
  }
  if (p.bias_gradient_b()) {
    for (int64_t i = 0; i < p.n * p.k; ++i) bias_gradient[i / p.k] += wide_b[i];
  }
  if (p.bias_gradient() || p.bias_gradient_a() || p.bias_gradient_b()) {
    for (size_t i = 0; i < bias_gradient.size(); ++i) Write(p.bias, p.bias_type, static_cast<int64_t>(i), bias_gradient[i]);
  }
}

}  // namespace

struct cublasLtContext {};

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
const char* cublasLtGetStatusString(cublasStatus_t) { return "status of the emulated cuBLASLt"; }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* made, cublasComputeType_t compute, cudaDataType_t scale) {
  CHECK(compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F);
  *made = reinterpret_cast<cublasLtMatmulDesc_t>(new Description);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t x) {
  delete reinterpret_cast<Description*>(x);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t x, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  reinterpret_cast<Description*>(x)->Set(attribute, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* made, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t leading) {
  *made = reinterpret_cast<cublasLtMatrixLayout_t>(
      new Matrix{type, static_cast<int64_t>(rows), static_cast<int64_t>(columns), leading});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t x) {
  delete reinterpret_cast<Matrix*>(x);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* made) {
  *made = reinterpret_cast<cublasLtMatmulPreference_t>(new Attributes);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t x) {
  delete reinterpret_cast<Attributes*>(x);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t x,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  reinterpret_cast<Attributes*>(x)->Set(attribute, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t x, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int* found) {
  CHECK_GE(wanted, 1);
  *found = 0;
  if (Refusal(ReadOut(Of(x), Of(a), Of(b), Of(c), Of(d))) != nullptr) return CUBLAS_STATUS_NOT_SUPPORTED;
  results[0] = {};
  results[0].state = CUBLAS_STATUS_SUCCESS;
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t x, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algorithm, void*, size_t,
                              cudaStream_t stream) {
  CHECK(handle != nullptr && algorithm != nullptr);
  const Product p = ReadOut(Of(x), Of(a_layout), Of(b_layout), Of(c_layout), Of(d_layout));
  const char* refusal = Refusal(p);
  CHECK(refusal == nullptr) << "cuBLASLt does not allow: " << refusal;
  trefoil::emulation::Enqueue(stream, [=, alpha = *static_cast<const float*>(alpha),
                                       beta = *static_cast<const float*>(beta)] {
    Compute(p, alpha, a, b, beta, c, d);
  });
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
