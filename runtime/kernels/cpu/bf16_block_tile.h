// The loops of Bf16Kernel for AVX-512 and for AMX. Whoever includes this gives meaning to the intrinsics first:
// cpu/bf16_block.cc by <immintrin.h> and a target pragma, a test by an emulation of them.
#pragma once

#include <cstdint>
#include <cstring>

#include "runtime/kernels/cpu/bf16_block.h"

namespace trefoil::cpu {
namespace {

// Tiles of 8 rows by 2 vectors of sums.
inline void Avx512Block(int64_t m, int64_t n, int64_t k, const BFloat16* a, int64_t lda, const Bf16Pair* b, int64_t ldb,
                        float* c, int64_t ldc, bool add) {
  constexpr int kRows = 8, kLanes = 16;
  for (int64_t j = 0; j < n; j += 2 * kLanes) {
    for (int64_t i = 0; i < m; i += kRows) {
      __m512 sum[kRows][2];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
      for (int64_t l = 0; l < k; l += 2) {
        const Bf16Pair* row = b + l / 2 * ldb + j;
        const __m512bh b0 = (__m512bh)_mm512_loadu_si512(row), b1 = (__m512bh)_mm512_loadu_si512(row + kLanes);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          int pair;
          std::memcpy(&pair, a + (i + r) * lda + l, sizeof(pair));
          const __m512bh value = (__m512bh)_mm512_set1_epi32(pair);
          sum[r][0] = _mm512_dpbf16_ps(sum[r][0], value, b0);
          sum[r][1] = _mm512_dpbf16_ps(sum[r][1], value, b1);
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        float* to = c + (i + r) * ldc + j;
        if (add) {
          sum[r][0] = _mm512_add_ps(_mm512_loadu_ps(to), sum[r][0]);
          sum[r][1] = _mm512_add_ps(_mm512_loadu_ps(to + kLanes), sum[r][1]);
        }
        _mm512_storeu_ps(to, sum[r][0]);
        _mm512_storeu_ps(to + kLanes, sum[r][1]);
      }
    }
  }
}

// All tiles have 16 rows of 64 bytes: 0 to 3 are 2 x 2 tiles of fp32 sums, 4 and 5 two of a (32 bf16 a row), 6 and 7
// two of b (16 pairs a row).
inline void AmxBegin() {
  struct alignas(64) TileConfig {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t column_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  // GCC 12 believes that the intrinsic reads 8 bytes of memory, and would leave out the writes of the others.
  asm volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}

inline void AmxEnd() { _tile_release(); }

inline void AmxBlock(int64_t m, int64_t n, int64_t k, const BFloat16* a, int64_t lda, const Bf16Pair* b, int64_t ldb,
                     float* c, int64_t ldc, bool add) {
  const int64_t a_stride = lda * 2, b_stride = ldb * 4, c_stride = ldc * 4;  // in bytes
  asm volatile("" : : : "memory");  // as above: the tiles are loaded from memory that GCC does not see being read
  for (int64_t j = 0; j < n; j += 32) {
    for (int64_t i = 0; i < m; i += 32) {
      float *upper = c + i * ldc + j, *lower = upper + 16 * ldc;
      if (add) {
        _tile_loadd(0, upper, c_stride);
        _tile_loadd(1, upper + 16, c_stride);
        _tile_loadd(2, lower, c_stride);
        _tile_loadd(3, lower + 16, c_stride);
      } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
      }
      for (int64_t l = 0; l < k; l += 32) {
        const BFloat16* left = a + i * lda + l;
        const Bf16Pair* right = b + l / 2 * ldb + j;
        _tile_loadd(4, left, a_stride);
        _tile_loadd(6, right, b_stride);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, right + 16, b_stride);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, left + 16 * lda, a_stride);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
      _tile_stored(0, upper, c_stride);
      _tile_stored(1, upper + 16, c_stride);
      _tile_stored(2, lower, c_stride);
      _tile_stored(3, lower + 16, c_stride);
    }
  }
}

}  // namespace
}  // namespace trefoil::cpu
