#include "runtime/kernels/cpu/vector.h"

namespace trefoil::cpu {
namespace {

constexpr int64_t kBlock = 1024;  // columns whose sums stay in the first cache

int64_t LengthOf(const Tensor& lengths, int64_t sample, int64_t tokens) {
  return lengths.defined() ? lengths.data<int32_t>()[sample] : tokens;
}

// The mean over `count` rows of `columns` elements, `width` of them from `x` on.
template <typename T>
void Mean(const T* x, int64_t count, int64_t columns, int64_t width, T* y) {
  float sum[kBlock] = {};
  for (int64_t i = 0; i < count; ++i) {
    const T* row = x + i * columns;
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) sum[j] += static_cast<float>(row[j]);
  }
  const float divisor = static_cast<float>(std::max<int64_t>(count, 1));
#pragma omp simd
  for (int64_t j = 0; j < width; ++j) Store(y[j], sum[j] / divisor);
}

template <typename T>
void Divide(const T* dy, int64_t columns, float divisor, T* dx) {
#pragma omp simd
  for (int64_t j = 0; j < columns; ++j) Store(dx[j], static_cast<float>(dy[j]) / divisor);
}

}  // namespace

void MeanPool(const CpuContext& cpu, const Tensor& x, int64_t tokens, const Tensor& lengths, int64_t first,
              const Tensor& y) {
  const int64_t samples = y.dim(0), columns = y.dim(1), pieces = Blocks(columns, kBlock);
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    ParallelBlocks(cpu, samples * pieces, 1, [=, &lengths](int64_t task, int64_t) {
      const int64_t sample = task / pieces, begin = task % pieces * kBlock;
      const int64_t count = std::max<int64_t>(LengthOf(lengths, sample, tokens) - first, 0);
      Mean(in + (sample * tokens + first) * columns + begin, count, columns, std::min(kBlock, columns - begin),
           out + sample * columns + begin);
    });
  });
}

void MeanPoolBackward(const CpuContext& cpu, const Tensor& dy, int64_t tokens, const Tensor& lengths, int64_t first,
                      const Tensor& dx) {
  const int64_t columns = dy.dim(1);
  WithType(dy.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* d = dy.data<T>();
    T* out = dx.data<T>();
    ParallelBlocks(cpu, dx.dim(0), RowGrain(columns), [=, &lengths](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t sample = i / tokens, token = i % tokens, length = LengthOf(lengths, sample, tokens);
        T* row = out + i * columns;
        if (first <= token && token < length) {
          Divide(d + sample * columns, columns, static_cast<float>(length - first), row);
        } else {
          std::fill_n(row, columns, T(0.0f));
        }
      }
    });
  });
}

}  // namespace trefoil::cpu
