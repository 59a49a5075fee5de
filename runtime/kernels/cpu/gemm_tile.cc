#include "runtime/kernels/cpu/gemm_tile.h"

namespace trefoil::cpu {
namespace {

void Panels256(const float* a, const float* b, int64_t m, int64_t n, int64_t k, float* c, int64_t ldc, bool add,
               const float* bias) {
  MultiplyPanels<Vector256, 6, 2>(a, b, m, n, k, c, ldc, add, bias);
}

void Block256(int64_t m, int64_t n, int64_t k, const GemmA& a, const float* b, int64_t ldb, float* c, int64_t ldc,
              bool add) {
  MultiplyBlock<Vector256, 6, 2>(m, n, k, a, b, ldb, c, ldc, add);
}

[[gnu::target("arch=x86-64-v4")]] void Panels512(const float* a, const float* b, int64_t m, int64_t n, int64_t k,
                                                 float* c, int64_t ldc, bool add, const float* bias) {
  MultiplyPanels<Vector512, 12, 2>(a, b, m, n, k, c, ldc, add, bias);
}

[[gnu::target("arch=x86-64-v4")]] void Block512(int64_t m, int64_t n, int64_t k, const GemmA& a, const float* b,
                                                int64_t ldb, float* c, int64_t ldc, bool add) {
  MultiplyBlock<Vector512, 12, 2>(m, n, k, a, b, ldb, c, ldc, add);
}

}  // namespace

const GemmKernel& Avx2GemmKernel() {
  static constexpr GemmKernel kKernel = {6, 16, Panels256, Block256};
  return kKernel;
}

const GemmKernel& Avx512GemmKernel() {
  static constexpr GemmKernel kKernel = {12, 32, Panels512, Block512};
  return kKernel;
}

}  // namespace trefoil::cpu
