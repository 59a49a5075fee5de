#include "runtime/kernels/cpu/bf16_block.h"

#include <immintrin.h>

#include <bit>
#include <cstring>

#include "runtime/host/cpu_features.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bf16,amx-tile,amx-bf16")
#include "runtime/kernels/cpu/bf16_block_tile.h"
#pragma GCC pop_options

namespace trefoil::cpu {
namespace {

void PlainBlock(int64_t m, int64_t n, int64_t k, const BFloat16* a, int64_t lda, const Bf16Pair* b, int64_t ldb,
                float* c, int64_t ldc, bool add) {
  for (int64_t i = 0; i < m; ++i) {
    float* row = c + i * ldc;
    if (!add) std::memset(row, 0, static_cast<size_t>(n) * sizeof(float));
    for (int64_t l = 0; l < k; l += 2) {
      const auto even = static_cast<float>(a[i * lda + l]), odd = static_cast<float>(a[i * lda + l + 1]);
      const Bf16Pair* pairs = b + l / 2 * ldb;
      for (int64_t j = 0; j < n; ++j) {
        row[j] += even * std::bit_cast<float>(pairs[j] << 16) + odd * std::bit_cast<float>(pairs[j] & 0xffff0000u);
      }
    }
  }
}

void Nothing() {}

constexpr Bf16Kernel kPlain = {"plain", PlainBlock, Nothing, Nothing};
constexpr Bf16Kernel kAvx512 = {"avx512_bf16", Avx512Block, Nothing, Nothing};
constexpr Bf16Kernel kAmx = {"amx_bf16", AmxBlock, AmxBegin, AmxEnd};

}  // namespace

std::vector<const Bf16Kernel*> Bf16Kernels() {
  std::vector<const Bf16Kernel*> kernels;
  if (CpuHasAmxBFloat16()) kernels.push_back(&kAmx);
  if (CpuHasAvx512BFloat16()) kernels.push_back(&kAvx512);
  kernels.push_back(&kPlain);
  return kernels;
}

const Bf16Kernel* BestBf16Kernel() {
  const Bf16Kernel* first = Bf16Kernels().front();
  return first == &kPlain ? nullptr : first;
}

}  // namespace trefoil::cpu
