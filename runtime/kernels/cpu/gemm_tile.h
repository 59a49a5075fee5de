// The loops of GemmKernel, for any vector type; cpu/gemm_tile.cc compiles them for each instruction set.
#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/kernels/cpu/gemm.h"

namespace trefoil::cpu {

// Any alignment.
using Vector256 = float __attribute__((vector_size(32), aligned(4), may_alias));
using Vector512 = float __attribute__((vector_size(64), aligned(4), may_alias));

// A tile of kRows x (kVectors vectors): sum += a b. always_inline: takes the caller's instruction set.
template <typename V, int kRows, int kVectors>
[[gnu::always_inline]] inline void MultiplyTile(const float* a, int64_t row_stride, int64_t column_stride,
                                                const float* b, int64_t ldb, int64_t k, V (&sum)[kRows][kVectors]) {
  constexpr int kLanes = sizeof(V) / sizeof(float);
  // Unrolled: where a neighbour shares the core, instructions of the loop itself cost as much as those that multiply.
#pragma GCC unroll 4
  for (int64_t l = 0; l < k; ++l) {
    V row[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) row[j] = *reinterpret_cast<const V*>(b + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const float value = a[i * row_stride];
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sum[i][j] += value * row[j];
    }
    a += column_stride;
    b += ldb;
  }
}

template <typename V, int kRows, int kVectors>
[[gnu::always_inline]] inline void PanelTile(const float* a, const float* b, int64_t rows, int64_t columns, int64_t k,
                                             float* c, int64_t ldc, bool add, const float* bias) {
  constexpr int kLanes = sizeof(V) / sizeof(float), kColumns = kVectors * kLanes;
  for (int64_t i = 0; i < rows; ++i) __builtin_prefetch(c + i * ldc, 1);
  V sum[kRows][kVectors] = {};
  MultiplyTile<V, kRows, kVectors>(a, 1, kRows, b, kColumns, k, sum);
  if (rows < kRows || columns < kColumns) {
    // At the edge of the result the tile goes through memory, with the same additions in the same order.
    const float* sums = reinterpret_cast<const float*>(sum);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        const float value = add ? c[i * ldc + j] + sums[i * kColumns + j] : sums[i * kColumns + j];
        c[i * ldc + j] = bias == nullptr ? value : value + bias[j];
      }
    }
    return;
  }
  // All reads of c before the writes: rows may be a multiple of 4096 bytes apart, and then a read would wait for the
  // write of the row above.
  if (add) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sum[i][j] = *reinterpret_cast<const V*>(c + i * ldc + j * kLanes) + sum[i][j];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      if (bias != nullptr) sum[i][j] += *reinterpret_cast<const V*>(bias + j * kLanes);
      *reinterpret_cast<V*>(c + i * ldc + j * kLanes) = sum[i][j];
    }
  }
}

template <typename V, int kRows, int kVectors>
[[gnu::always_inline]] inline void MultiplyPanels(const float* a, const float* b, int64_t m, int64_t n, int64_t k,
                                                  float* c, int64_t ldc, bool add, const float* bias) {
  constexpr int64_t kColumns = kVectors * static_cast<int64_t>(sizeof(V) / sizeof(float));
  for (int64_t j = 0; j < n; j += kColumns) {
    for (int64_t i = 0; i < m; i += kRows) {
      PanelTile<V, kRows, kVectors>(a + i * k, b + j * k, std::min<int64_t>(kRows, m - i), std::min(kColumns, n - j), k,
                                    c + i * ldc + j, ldc, add, bias == nullptr ? nullptr : bias + j);
    }
  }
}

template <typename V, int kRows, int kVectors>
[[gnu::always_inline]] inline void BlockTile(int64_t k, const GemmA& a, int64_t i, const float* b, int64_t ldb,
                                             float* c, int64_t ldc, bool add) {
  constexpr int kLanes = sizeof(V) / sizeof(float);
  V sum[kRows][kVectors] = {};
  MultiplyTile<V, kRows, kVectors>(a.data + i * a.row_stride, a.row_stride, a.column_stride, b, ldb, k, sum);
  c += i * ldc;
  if (add) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sum[r][j] = *reinterpret_cast<const V*>(c + r * ldc + j * kLanes) + sum[r][j];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) *reinterpret_cast<V*>(c + r * ldc + j * kLanes) = sum[r][j];
  }
}

// The rows of a that make no whole tile, by halves.
template <typename V, int kRows, int kVectors>
[[gnu::always_inline]] inline void BlockRows(int64_t m, int64_t k, const GemmA& a, const float* b, int64_t ldb,
                                             float* c, int64_t ldc, bool add) {
  int64_t i = 0;
  for (; i + kRows <= m; i += kRows) BlockTile<V, kRows, kVectors>(k, a, i, b, ldb, c, ldc, add);
  if (m - i >= 8 && kRows > 8) {
    BlockTile<V, 8, kVectors>(k, a, i, b, ldb, c, ldc, add);
    i += 8;
  }
  if (m - i >= 4) {
    BlockTile<V, 4, kVectors>(k, a, i, b, ldb, c, ldc, add);
    i += 4;
  }
  if (m - i >= 2) {
    BlockTile<V, 2, kVectors>(k, a, i, b, ldb, c, ldc, add);
    i += 2;
  }
  if (m - i >= 1) BlockTile<V, 1, kVectors>(k, a, i, b, ldb, c, ldc, add);
}

template <typename V, int kRows, int kVectors>
[[gnu::always_inline]] inline void MultiplyBlock(int64_t m, int64_t n, int64_t k, const GemmA& a, const float* b,
                                                 int64_t ldb, float* c, int64_t ldc, bool add) {
  constexpr int64_t kLanes = sizeof(V) / sizeof(float), kColumns = kVectors * kLanes;
  int64_t j = 0;
  for (; j + kColumns <= n; j += kColumns) BlockRows<V, kRows, kVectors>(m, k, a, b + j, ldb, c + j, ldc, add);
  for (; j < n; j += kLanes) BlockRows<V, kRows, 1>(m, k, a, b + j, ldb, c + j, ldc, add);
}

}  // namespace trefoil::cpu
