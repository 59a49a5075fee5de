// Products of a few rows with a matrix whose rows are the columns of the result: what a token that is written costs. The
// matrix is read once and is far larger than all else, so this is as fast as memory is, where packing it would not be.
//
// Eight of the matrix's rows at a time are turned into columns in registers, so that each lane adds up one element of the
// result, in the order of gemm.h: what comes out is, to the bit, what Gemm makes.
#include <immintrin.h>

#include "runtime/kernels/cpu/gemm.h"
#include "runtime/kernels/cpu/transpose.h"
#include "runtime/kernels/cpu/vector.h"

namespace trefoil::cpu {
namespace {

constexpr int64_t kLanes8 = 8;
// Bytes of a row that are asked for before they are used.
constexpr int64_t kAhead = 512;

__m256 Words(const float* x) { return _mm256_loadu_ps(x); }
__m256 Words(const BFloat16* x) { return _mm256_loadu_ps(reinterpret_cast<const float*>(x)); }

// Inner elements in a vector of words: bf16 come in pairs.
template <typename T>
constexpr int64_t kInner = static_cast<int64_t>(sizeof(__m256) / sizeof(T));

// sum[m] += a[m][l] * the element of each lane, for the inner elements that a word of each lane holds.
template <int kRows>
[[gnu::always_inline]] inline void AddWord(const float* a, int64_t lda, __m256 word, float, __m256 (&sum)[kRows]) {
  for (int m = 0; m < kRows; ++m) sum[m] = _mm256_fmadd_ps(_mm256_broadcast_ss(a + m * lda), word, sum[m]);
}
template <int kRows>
[[gnu::always_inline]] inline void AddWord(const float* a, int64_t lda, __m256 word, BFloat16, __m256 (&sum)[kRows]) {
  const __m256i bits = _mm256_castps_si256(word);
  AddWord<kRows>(a, lda, _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16)), 0.0f, sum);
  AddWord<kRows>(a + 1, lda, _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(static_cast<int>(0xffff0000)))),
                 0.0f, sum);
}

// Sums that a thread adds to by turns: one waits four cycles for the addition before.
constexpr int kSums = 4;

// Groups of eight of the matrix's rows: sum[g][m] is of inner elements [begin, end), the row of lane i of group g is
// rows[g][i]. `next`: how far behind each the rows are that are wanted then.
template <int kRows, int kGroups, typename T>
[[gnu::always_inline]] inline void Sums(const float* a, int64_t lda, const T* const (&rows)[kGroups][kLanes8], int64_t next,
                                        int64_t begin, int64_t end, int64_t k, __m256 (&sum)[kGroups][kRows]) {
  constexpr int64_t kAheadElements = kAhead / static_cast<int64_t>(sizeof(T)), kOfWord = kInner<T> / kLanes8;
  for (auto& of_group : sum) {
    for (__m256& one : of_group) one = _mm256_setzero_ps();
  }
  int64_t l = begin;
  for (; l + kInner<T> <= end; l += kInner<T>) {
    const bool asks = l % (2 * kInner<T>) == 0;
    const int64_t ahead = l + kAheadElements < k ? l + kAheadElements : next + l + kAheadElements - k;
    for (int g = 0; g < kGroups; ++g) {
      __m256 words[kLanes8];
      if (asks) {
        for (const T* row : rows[g]) _mm_prefetch(reinterpret_cast<const char*>(row + ahead), _MM_HINT_T0);
      }
      for (int64_t i = 0; i < kLanes8; ++i) words[i] = Words(rows[g][i] + l);
      Transpose8(words);
      for (int64_t i = 0; i < kLanes8; ++i) AddWord<kRows>(a + l + i * kOfWord, lda, words[i], T(), sum[g]);
    }
  }
  for (; l < end; ++l) {
    for (int g = 0; g < kGroups; ++g) {
      float column[kLanes8];
      for (int64_t i = 0; i < kLanes8; ++i) column[i] = static_cast<float>(rows[g][i][l]);
      AddWord<kRows>(a + l, lda, _mm256_loadu_ps(column), 0.0f, sum[g]);
    }
  }
}

// Columns [first, first + count) of the result, count <= 8 kGroups.
template <int kRows, int kGroups, typename T, typename Out>
void Columns(const float* a, const T* b, int64_t k, int64_t first, int64_t count, bool accumulate, const T* bias,
             Out* out, int64_t ldc) {
  constexpr int64_t kColumns = kGroups * kLanes8;
  const T* rows[kGroups][kLanes8];
  for (int64_t i = 0; i < kColumns; ++i) rows[i / kLanes8][i % kLanes8] = b + (first + std::min(i, count - 1)) * k;
  float result[kRows][kColumns] = {};
  for (int64_t begin = 0; begin < k; begin += kGemmDepth) {
    __m256 sum[kGroups][kRows];
    Sums<kRows, kGroups>(a, k, rows, kColumns * k, begin, std::min(k, begin + kGemmDepth), k, sum);
    for (int m = 0; m < kRows; ++m) {
      float sums[kColumns];
      for (int g = 0; g < kGroups; ++g) _mm256_storeu_ps(sums + g * kLanes8, sum[g][m]);
      for (int64_t i = 0; i < count; ++i) {
        float& value = result[m][i];
        if (begin == 0) {
          value = accumulate ? static_cast<float>(out[m * ldc + first + i]) + sums[i] : sums[i];
          if (bias != nullptr) value += static_cast<float>(bias[first + i]);
        } else {
          value += sums[i];
        }
      }
    }
  }
  for (int m = 0; m < kRows; ++m) {
    for (int64_t i = 0; i < count; ++i) Store(out[m * ldc + first + i], result[m][i]);
  }
}

template <int kRows, typename T, typename Out>
void Multiply(const CpuContext& cpu, const float* a, const Tensor& b, bool accumulate, const Tensor& bias,
              const Tensor& out) {
  constexpr int kGroups = (kSums + kRows - 1) / kRows;
  constexpr int64_t kColumns = kGroups * kLanes8;
  const int64_t n = out.dim(1), k = b.dim(1), blocks = Blocks(n, kColumns);
  const T* of_bias = bias.defined() ? bias.data<T>() : nullptr;
  const T* matrix = b.data<T>();
  Out* to = out.data<Out>();
  const int64_t runs = n * k < 64 * 64 * 4 ? 1 : std::min<int64_t>(cpu.threads, blocks);
  ParallelFor(cpu.threads, runs, [&](int64_t run) {
    for (int64_t block = blocks * run / runs; block < blocks * (run + 1) / runs; ++block) {
      const int64_t first = block * kColumns;
      Columns<kRows, kGroups>(a, matrix, k, first, std::min(kColumns, n - first), accumulate, of_bias, to, n);
    }
  });
}

}  // namespace

void MultiplyFewRows(const CpuContext& cpu, const Tensor& a, const Tensor& b, const Tensor& out, Accumulate accumulate,
                     const Tensor& bias) {
  const bool add = accumulate == Accumulate::kYes;
  const Workspace wide(cpu, a.dtype() == DType::kFloat32 ? 0 : a.elements());
  if (cpu.dry) return;
  WithType(a.dtype(), [&](auto type) {
    using T = decltype(type);
    const float* rows = wide.data();
    if constexpr (std::is_same_v<T, float>) {
      rows = a.data<float>();
    } else {
      for (int64_t i = 0; i < a.elements(); ++i) wide.data()[i] = static_cast<float>(a.data<T>()[i]);
    }
    WithType(out.dtype(), [&](auto out_type) {
      using Out = decltype(out_type);
      switch (out.dim(0)) {
        case 1:
          return Multiply<1, T, Out>(cpu, rows, b, add, bias, out);
        case 2:
          return Multiply<2, T, Out>(cpu, rows, b, add, bias, out);
        case 3:
          return Multiply<3, T, Out>(cpu, rows, b, add, bias, out);
        case 4:
          return Multiply<4, T, Out>(cpu, rows, b, add, bias, out);
        default:
          LOG(FATAL) << out.dim(0) << " rows are not few";
      }
    });
  });
}

}  // namespace trefoil::cpu
