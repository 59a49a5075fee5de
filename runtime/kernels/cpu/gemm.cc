#include <immintrin.h>

#include <cstring>

#include "runtime/kernels/cpu/gemm.h"
#include "runtime/kernels/cpu/transpose.h"
#include "runtime/kernels/cpu/vector.h"

namespace trefoil::cpu {
namespace {

// A thread multiplies kRows x kGemmDepth of a, which stay in the second cache, by a block of b, in one of two ways. Few
// rows: all of a is packed once and kept, and b, whose packing is then most of what is not multiplying, comes by narrow
// blocks, which stay in that cache too. Many rows: b comes by wide blocks (the third cache), and a is packed again for each.
// All are multiples of every kernel's tile.
constexpr int64_t kRows = 192, kKeptRows = 3 * kRows, kNarrow = 128, kWide = 1536;
// The part of a bf16 result that is kept in fp32 until its sums are complete.
constexpr int64_t kResultRows = 2 * kRows, kResultColumns = kWide;

__m256 Load8(const float* x) { return _mm256_loadu_ps(x); }
__m256 Load8(const BFloat16* x) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
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
constexpr int64_t kScratch = (kKeptRows + kWide) * kGemmDepth + 2 * kSpoiled;
constexpr int64_t kResultScratch = kResultRows * kResultColumns;

// Rows [row, row_end) and columns [column, column_end) of the result, whose first element is at c.
template <typename T, typename Out>
void Multiply(const GemmKernel& kernel, const Product<T, Out>& p, int64_t row, int64_t row_end, int64_t column,
              int64_t column_end, float* c, int64_t ldc, float* scratch) {
  float *packed_a = scratch, *packed_b = scratch + kKeptRows * kGemmDepth + kSpoiled;
  // Blocks of rows are of equal height: a low last one would read all of packed b for little work.
  const int64_t blocks = Blocks(row_end - row, kRows);
  const int64_t height = Blocks(Blocks(row_end - row, blocks), kernel.rows) * kernel.rows;
  const bool keep = blocks * height <= kKeptRows;
  const int64_t width = keep ? kNarrow : kWide;
  for (int64_t l = 0; l < p.k; l += kGemmDepth) {
    const int64_t depth = std::min(kGemmDepth, p.k - l);
    for (int64_t j = column; j < column_end; j += width) {
      const int64_t columns = std::min(width, column_end - j);
      Pack(p.b + (p.transpose_b ? j * p.ldb + l : l * p.ldb + j), p.ldb, p.transpose_b, columns, kernel.columns, depth,
           packed_b);
      for (int64_t i = row; i < row_end; i += height) {
        const int64_t rows = std::min(height, row_end - i);
        float* block = packed_a + (keep ? (i - row) * depth : 0);
        if (!keep || j == column) {
          Pack(p.a + (p.transpose_a ? l * p.lda + i : i * p.lda + l), p.lda, !p.transpose_a, rows, kernel.rows, depth,
               block);
        }
        kernel.panels(block, packed_b, rows, columns, depth, c + (i - row) * ldc + j - column, ldc,
                      l > 0 || p.accumulate, l > 0 || p.bias == nullptr ? nullptr : p.bias + j);
      }
    }
  }
}

// The same of a result of any type.
template <typename T, typename Out>
void Rectangle(const GemmKernel& kernel, const Product<T, Out>& p, int64_t row, int64_t row_end, int64_t column,
               int64_t column_end, float* scratch) {
  if constexpr (std::is_same_v<Out, float>) {
    return Multiply(kernel, p, row, row_end, column, column_end, p.out + row * p.ldc + column, p.ldc, scratch);
  } else {
    float* result = scratch + kScratch;
    for (int64_t i = row; i < row_end; i += kResultRows) {
      const int64_t i_end = std::min(row_end, i + kResultRows);
      for (int64_t j = column; j < column_end; j += kResultColumns) {
        const int64_t j_end = std::min(column_end, j + kResultColumns);
        Multiply(kernel, p, i, i_end, j, j_end, result, kResultColumns, scratch);
        for (int64_t r = i; r < i_end; ++r) {
          const float* from = result + (r - i) * kResultColumns;
          for (int64_t c = j; c < j_end; ++c) Store(p.out[r * p.ldc + c], from[c - j]);
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
        Rectangle(kernel, product, row, std::min(row + tall, m), column, std::min(column + wide, n),
                  workspace.data() + task * scratch);
      });
    });
  });
}

}  // namespace trefoil::cpu
