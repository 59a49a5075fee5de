// Products of matrices that fit in the first caches, in fp32, for the blocks of attention.
//
// c[i][j] (+)= sum over k of a[i][k] b[k][j], where b and c are row-major with padded rows: their row strides are
// multiples of kGemmColumns floats and so is n, and b, c are 32-byte aligned. a may have any strides, so a transposed a costs nothing.
// The sum over k runs in order, one fused multiply-add at a time.
#pragma once

#include <cstdint>

namespace trefoil::cpu {

inline constexpr int64_t kGemmColumns = 16;

inline int64_t PadColumns(int64_t n) { return (n + kGemmColumns - 1) / kGemmColumns * kGemmColumns; }

struct GemmA {
  const float* data;
  int64_t row_stride, column_stride;
};

namespace internal {

using Vector = float __attribute__((vector_size(32)));

// A tile of kRows x 16.
template <int kRows>
inline void GemmTile(const GemmA& a, const float* b, int64_t ldb, int64_t k, float* c, int64_t ldc, bool accumulate) {
  Vector sum[kRows][2];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
    const Vector* row = reinterpret_cast<const Vector*>(c + i * ldc);
    sum[i][0] = accumulate ? row[0] : Vector{};
    sum[i][1] = accumulate ? row[1] : Vector{};
  }
  const float* a_data = a.data;
  const int64_t row_stride = a.row_stride, column_stride = a.column_stride;
  for (int64_t l = 0; l < k; ++l) {
    const Vector* row = reinterpret_cast<const Vector*>(b + l * ldb);
    const Vector b0 = row[0], b1 = row[1];
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const float value = a_data[i * row_stride];
      sum[i][0] += value * b0;
      sum[i][1] += value * b1;
    }
    a_data += column_stride;
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
    Vector* row = reinterpret_cast<Vector*>(c + i * ldc);
    row[0] = sum[i][0];
    row[1] = sum[i][1];
  }
}

}  // namespace internal

inline void SmallGemm(int64_t m, int64_t n, int64_t k, const GemmA& a, const float* b, int64_t ldb, float* c,
                      int64_t ldc, bool accumulate) {
  for (int64_t j = 0; j < n; j += kGemmColumns) {
    int64_t i = 0;
    for (; i + 6 <= m; i += 6) {
      internal::GemmTile<6>({a.data + i * a.row_stride, a.row_stride, a.column_stride}, b + j, ldb, k,
                            c + i * ldc + j, ldc, accumulate);
    }
    const GemmA rest = {a.data + i * a.row_stride, a.row_stride, a.column_stride};
    float* to = c + i * ldc + j;
    switch (m - i) {
      case 5: internal::GemmTile<5>(rest, b + j, ldb, k, to, ldc, accumulate); break;
      case 4: internal::GemmTile<4>(rest, b + j, ldb, k, to, ldc, accumulate); break;
      case 3: internal::GemmTile<3>(rest, b + j, ldb, k, to, ldc, accumulate); break;
      case 2: internal::GemmTile<2>(rest, b + j, ldb, k, to, ldc, accumulate); break;
      case 1: internal::GemmTile<1>(rest, b + j, ldb, k, to, ldc, accumulate); break;
      default: break;
    }
  }
}

}  // namespace trefoil::cpu
