#include <immintrin.h>

#include <cstring>

#include "runtime/kernels/gemm.h"
#include "runtime/kernels/vector.h"

namespace trefoil::cpu {
namespace {

// What a thread packs at a time: kRows x kGemmDepth of a (the second cache), kGemmDepth x kColumns of b (the third).
// Multiples of every kernel's tile.
constexpr int64_t kRows = 192, kColumns = 1536;
// Rows of a bf16 result that are kept in fp32 until their sums are complete.
constexpr int64_t kResultRows = 2 * kRows;

__m256 Load8(const float* x) { return _mm256_loadu_ps(x); }
__m256 Load8(const BFloat16* x) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

// Rows x[0..7] of 8 become columns. always_inline: a call would take them through memory.
[[gnu::always_inline]] inline void Transpose8(__m256 (&x)[8]) {
  __m256 y[8];
  for (int i = 0; i < 4; ++i) {
    y[2 * i] = _mm256_unpacklo_ps(x[2 * i], x[2 * i + 1]);
    y[2 * i + 1] = _mm256_unpackhi_ps(x[2 * i], x[2 * i + 1]);
  }
  __m256 z[8];
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 2; ++j) {
      z[4 * i + 2 * j] = _mm256_shuffle_ps(y[4 * i + j], y[4 * i + 2 + j], 0x44);
      z[4 * i + 2 * j + 1] = _mm256_shuffle_ps(y[4 * i + j], y[4 * i + 2 + j], 0xee);
    }
  }
  for (int i = 0; i < 4; ++i) {
    x[i] = _mm256_permute2f128_ps(z[i], z[i + 4], 0x20);
    x[i + 4] = _mm256_permute2f128_ps(z[i], z[i + 4], 0x31);
  }
}

// Rows [kFirst, kFirst + 8) of a panel, of which `valid` are there: to[l][kFirst + i] = x[i * ld + l], l < depth.
template <int kWidth, int kFirst, typename T>
void PackEight(const T* x, int64_t ld, int64_t valid, int64_t depth, float* to) {
  // Whole vectors are stored where what they spoil is stored later.
  constexpr int kStored = kFirst + 8 > kWidth && kFirst > 0 ? kWidth - kFirst : 8;
  const auto pack = [=](const T* const(&rows)[8], int64_t l, int64_t count) {
    __m256 block[8];
    for (int i = 0; i < 8; ++i) block[i] = i < valid ? Load8(rows[i]) : _mm256_setzero_ps();
    Transpose8(block);
    for (int i = 0; i < count; ++i) std::memcpy(to + (l + i) * kWidth + kFirst, &block[i], kStored * sizeof(float));
  };
  const T* rows[8];
  for (int i = 0; i < 8; ++i) rows[i] = x + (i < valid ? i * ld : 0);
  int64_t l = 0;
  for (; l + 8 <= depth; l += 8) {
    pack(rows, l, 8);
    for (int i = 0; i < 8; ++i) {
      if (l % 16 == 0) __builtin_prefetch(rows[i] + std::min(kWidth, 8) * ld);  // of the rows that are next
      rows[i] += 8;
    }
  }
  if (l < depth) {
    T rest[8][8] = {};
    for (int i = 0; i < 8; ++i) {
      std::copy_n(rows[i], depth - l, rest[i]);
      rows[i] = rest[i];
    }
    pack(rows, l, depth - l);
  }
}

// One panel: to[l][i] = x[i * ld + l] for i < rows (zero to kWidth), l < depth.
template <int kWidth, typename T>
void PackLines(const T* x, int64_t ld, int64_t rows, int64_t depth, float* to) {
  PackEight<kWidth, 0>(x, ld, rows, depth, to);
  if constexpr (kWidth > 8) PackEight<kWidth, 8>(rows > 8 ? x + 8 * ld : x, ld, rows - 8, depth, to);
  if constexpr (kWidth > 16) PackEight<kWidth, 16>(rows > 16 ? x + 16 * ld : x, ld, rows - 16, depth, to);
  if constexpr (kWidth > 24) PackEight<kWidth, 24>(rows > 24 ? x + 24 * ld : x, ld, rows - 24, depth, to);
}

// All panels: to[panel][l][i] = x[l * ld + panel * kWidth + i], with zeros from `columns` on.
template <int kWidth, typename T>
void PackRows(const T* x, int64_t ld, int64_t columns, int64_t depth, float* to) {
  // A few panels at a time: where they begin is congruent modulo the first cache's sets.
  constexpr int64_t kGroup = 16;
  constexpr int64_t kAhead = 4, kLine = 64 / sizeof(T);  // rows are too far apart for the CPU to see them coming
  const int64_t whole = columns / kWidth;
  for (int64_t first = 0; first < whole; first += kGroup) {
    const int64_t last = std::min(whole, first + kGroup);
    for (int64_t l = 0; l < depth; ++l) {
      const T* row = x + l * ld;
      for (int64_t i = first * kWidth; i < last * kWidth; i += kLine) __builtin_prefetch(row + kAhead * ld + i);
      for (int64_t panel = first; panel < last; ++panel) {
        float* out = to + (panel * depth + l) * kWidth;
        if constexpr (std::is_same_v<T, float>) {
          std::memcpy(out, row + panel * kWidth, kWidth * sizeof(float));
        } else {
          for (int i = 0; i < kWidth; ++i) out[i] = static_cast<float>(row[panel * kWidth + i]);
        }
      }
    }
  }
  for (int64_t l = 0; l < depth && whole * kWidth < columns; ++l) {
    const T* row = x + l * ld;
    float* out = to + (whole * depth + l) * kWidth;
    for (int64_t i = 0; i < kWidth; ++i) {
      out[i] = whole * kWidth + i < columns ? static_cast<float>(row[whole * kWidth + i]) : 0.0f;
    }
  }
}

template <int kWidth, typename T>
void PackPanels(const T* x, int64_t ld, bool lines, int64_t rows, int64_t depth, float* to) {
  if (!lines) return PackRows<kWidth>(x, ld, rows, depth, to);
  for (int64_t i = 0; i < rows; i += kWidth) {
    PackLines<kWidth>(x + i * ld, ld, std::min<int64_t>(kWidth, rows - i), depth, to + i * depth);
  }
}

// Packs `rows` rows of op(x) with `depth` inner elements in panels of `width` rows. lines: the inner elements of a row
// lie side by side.
template <typename T>
void Pack(const T* x, int64_t ld, bool lines, int64_t rows, int width, int64_t depth, float* to) {
  switch (width) {
    case 6:
      return PackPanels<6>(x, ld, lines, rows, depth, to);
    case 12:
      return PackPanels<12>(x, ld, lines, rows, depth, to);
    case 16:
      return PackPanels<16>(x, ld, lines, rows, depth, to);
    case 32:
      return PackPanels<32>(x, ld, lines, rows, depth, to);
    default:
      LOG(FATAL) << "no tile has a side of " << width;
  }
}

// op(a) op(b) as it lies in memory.
template <typename T, typename Out>
struct Product {
  const T *a, *b;
  bool transpose_a, transpose_b;
  int64_t lda, ldb, k;
  Out* out;
  int64_t ldc;
  bool accumulate;
  const float* bias;
};

// Scratch of one thread, in floats. Packing may spoil what lies behind the last panel.
constexpr int64_t kSpoiled = 16;
constexpr int64_t kScratch = (kRows + kColumns) * kGemmDepth + 2 * kSpoiled;
constexpr int64_t kResultScratch = kResultRows * kColumns;

// Rows [row, row + m) and columns [column, column + n) of the result.
template <typename T, typename Out>
void Rectangle(const GemmKernel& kernel, const Product<T, Out>& p, int64_t row, int64_t m, int64_t column, int64_t n,
               float* scratch) {
  constexpr bool kDirect = std::is_same_v<Out, float>;
  float *packed_a = scratch, *packed_b = scratch + kRows * kGemmDepth + kSpoiled, *result = scratch + kScratch;
  const int64_t result_rows = kDirect ? m : kResultRows;
  for (int64_t i0 = 0; i0 < m; i0 += result_rows) {
    const int64_t i_end = std::min(m, i0 + result_rows);
    // Blocks of rows are of equal height: a low last one would read all of packed b for little work.
    const int64_t height = Blocks(Blocks(i_end - i0, Blocks(i_end - i0, kRows)), kernel.rows) * kernel.rows;
    for (int64_t j = 0; j < n; j += kColumns) {
      const int64_t columns = std::min(kColumns, n - j), at_column = column + j;
      for (int64_t l = 0; l < p.k; l += kGemmDepth) {
        const int64_t depth = std::min(kGemmDepth, p.k - l);
        Pack(p.b + (p.transpose_b ? at_column * p.ldb + l : l * p.ldb + at_column), p.ldb, p.transpose_b, columns,
             kernel.columns, depth, packed_b);
        for (int64_t i = i0; i < i_end; i += height) {
          const int64_t rows = std::min(height, i_end - i), at_row = row + i;
          Pack(p.a + (p.transpose_a ? l * p.lda + at_row : at_row * p.lda + l), p.lda, !p.transpose_a, rows,
               kernel.rows, depth, packed_a);
          float* c = result + (i - i0) * kColumns;
          if constexpr (kDirect) c = p.out + at_row * p.ldc + at_column;
          kernel.panels(packed_a, packed_b, rows, columns, depth, c, kDirect ? p.ldc : kColumns, l > 0 || p.accumulate,
                        l > 0 || p.bias == nullptr ? nullptr : p.bias + at_column);
        }
      }
      if constexpr (!kDirect) {
        for (int64_t i = i0; i < i_end; ++i) {
          Out* to = p.out + (row + i) * p.ldc + at_column;
          const float* from = result + (i - i0) * kColumns;
          for (int64_t c = 0; c < columns; ++c) Store(to[c], from[c]);
        }
      }
    }
  }
}

// How [m, n] is cut into rows x columns rectangles, one for each thread.
struct Grid {
  int rows, columns;
};
Grid Cut(int threads, int64_t m, int64_t n, int64_t k, const GemmKernel& kernel) {
  if (m * n * k < 64 * 64 * 64) return {1, 1};
  Grid best = {1, 1};
  double best_cost = 1e300;
  for (int rows = 1; rows <= threads; ++rows) {
    const int columns = threads / rows;
    const auto tall = static_cast<double>(Blocks(Blocks(m, kernel.rows), rows) * kernel.rows);
    const auto wide = static_cast<double>(Blocks(Blocks(n, kernel.columns), columns) * kernel.columns);
    const double cost = tall * wide + 32 * (tall + wide);  // packing an element costs as much as 32 multiply-adds
    if (cost < best_cost) {
      best_cost = cost;
      best = {rows, columns};
    }
  }
  return best;
}

}  // namespace

void Gemm(const CpuContext& cpu, const GemmKernel& kernel, const Tensor& a, Transpose transpose_a, const Tensor& b,
          Transpose transpose_b, const Tensor& out, Accumulate accumulate, const Tensor& bias) {
  const int64_t m = out.dim(0), n = out.dim(1);
  const bool ta = transpose_a == Transpose::kYes, tb = transpose_b == Transpose::kYes;
  const int64_t k = a.dim(ta ? 0 : 1);
  const Grid grid = Cut(cpu.threads, m, n, k, kernel);
  const int64_t tall = Blocks(Blocks(m, kernel.rows), grid.rows) * kernel.rows;
  const int64_t wide = Blocks(Blocks(n, kernel.columns), grid.columns) * kernel.columns;
  const bool direct = out.dtype() == DType::kFloat32;
  const int64_t scratch = kScratch + (direct ? 0 : kResultScratch);
  const Workspace workspace(cpu, scratch * grid.rows * grid.columns);
  const Workspace wide_bias(cpu, bias.defined() ? n : 0);
  if (cpu.dry) return;
  WithType(a.dtype(), [&](auto type) {
    using T = decltype(type);
    if (bias.defined()) {
      for (int64_t j = 0; j < n; ++j) wide_bias.data()[j] = static_cast<float>(bias.data<T>()[j]);
    }
    WithType(out.dtype(), [&](auto out_type) {
      using Out = decltype(out_type);
      const Product<T, Out> product = {a.data<T>(),
                                       b.data<T>(),
                                       ta,
                                       tb,
                                       a.dim(1),
                                       b.dim(1),
                                       k,
                                       out.data<Out>(),
                                       n,
                                       accumulate == Accumulate::kYes,
                                       bias.defined() ? wide_bias.data() : nullptr};
      ParallelFor(grid.rows * grid.columns, grid.rows * grid.columns, [&](int64_t task) {
        const int64_t row = task / grid.columns * tall, column = task % grid.columns * wide;
        if (row >= m || column >= n) return;
        Rectangle(kernel, product, row, std::min(tall, m - row), column, std::min(wide, n - column),
                  workspace.data() + task * scratch);
      });
    });
  });
}

}  // namespace trefoil::cpu
