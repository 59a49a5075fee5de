#include <immintrin.h>

#include <cstring>
#include <vector>

#include "runtime/kernels/cpu/vector.h"

namespace trefoil::cpu {
namespace {

template <typename T>
void AddRange(const T* a, const T* b, int64_t n, T* out) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) Store(out[i], static_cast<float>(a[i]) + static_cast<float>(b[i]));
}

template <typename T>
void ScaleRange(const T* x, int64_t n, float factor, T* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) Store(y[i], factor * static_cast<float>(x[i]));
}

template <typename T>
void AddTo(const T* in, int64_t n, float* out) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) out[i] += static_cast<float>(in[i]);
}

template <typename From, typename To>
void CastRange(const From* in, int64_t n, To* out) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) Store(out[i], static_cast<float>(in[i]));
}

// Bytes of a tensor that no cache keeps.
constexpr int64_t kBeyondCaches = int64_t{16} << 20;

// past_caches: memory is not read before it is overwritten.
template <typename T>
void FillRange(T* begin, T* end, T value, bool past_caches) {
  if (past_caches) {
    constexpr size_t kBytes = sizeof(__m256i);
    T copies[kBytes / sizeof(T)];
    std::fill(std::begin(copies), std::end(copies), value);
    const __m256i vector = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(copies));
    for (; begin != end && reinterpret_cast<uintptr_t>(begin) % kBytes != 0; ++begin) *begin = value;
    for (; end - begin >= static_cast<ptrdiff_t>(std::size(copies)); begin += std::size(copies)) {
      _mm256_stream_si256(reinterpret_cast<__m256i*>(begin), vector);
    }
    _mm_sfence();
  }
  std::fill(begin, end, value);
}

}  // namespace

void BiasBackward(const CpuContext& cpu, const Tensor& dy, const Tensor& d_bias) {
  const int64_t rows = dy.dim(0), columns = dy.dim(1);
  if (dy.elements() == 0) return;
  const int64_t block = SumBlockRows(rows), parts = Blocks(rows, block);
  const Workspace partial(cpu, parts * columns);
  if (cpu.dry) return;
  WithType(dy.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* d = dy.data<T>();
    ParallelFor(cpu.threads, parts, [=, sums = partial.data()](int64_t part) {
      float* sum = sums + part * columns;
      std::fill_n(sum, columns, 0.0f);
      for (int64_t i = part * block; i < std::min(rows, (part + 1) * block); ++i) AddTo(d + i * columns, columns, sum);
    });
  });
  AddPartials(cpu, partial.data(), parts, columns, columns, d_bias.data<float>());
}

void AddBias(const CpuContext& cpu, const Tensor& x, const Tensor& bias) {
  const int64_t columns = x.dim(1);
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    T* data = x.data<T>();
    const T* b = bias.data<T>();
    ParallelBlocks(cpu, x.dim(0), RowGrain(columns), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) AddRange(data + i * columns, b, columns, data + i * columns);
    });
  });
}

void Add(const CpuContext& cpu, const Tensor& a, const Tensor& b, const Tensor& out) {
  WithType(a.dtype(), [&](auto type) {
    using T = decltype(type);
    const T *a_data = a.data<T>(), *b_data = b.data<T>();
    T* o = out.data<T>();
    ParallelBlocks(cpu, a.elements(), kGrain, [=](int64_t begin, int64_t end) {
      AddRange(a_data + begin, b_data + begin, end - begin, o + begin);
    });
  });
}

void Scale(const CpuContext& cpu, const Tensor& x, float factor, const Tensor& y) {
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    ParallelBlocks(cpu, x.elements(), kGrain, [=](int64_t begin, int64_t end) {
      ScaleRange(in + begin, end - begin, factor, out + begin);
    });
  });
}

void SumParts(const CpuContext& cpu, const Tensor& parts, const Tensor& out) {
  constexpr int64_t kBlock = 1024;  // its sums stay in the first cache
  const int64_t count = parts.dim(0), n = parts.dim(1);
  WithType(parts.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* in = parts.data<T>();
    T* o = out.data<T>();
    ParallelBlocks(cpu, n, kBlock, [=](int64_t begin, int64_t end) {
      const int64_t size = end - begin;
      // sums[i]: of 2^i parts in a row that wait for as many behind them; those of the set bits of `part`.
      float sums[kSumPartsLevels][kBlock], sum[kBlock];
      for (int64_t part = 0; part < count; ++part) {
        CastRange(in + part * n + begin, size, sum);
        int level = 0;
        for (; (part >> level & 1) != 0; ++level) AddTo(sums[level], size, sum);
        if (part + 1 < count) CastRange(sum, size, sums[level]);
        // The last one, with whatever waits.
        for (++level; part + 1 == count && level < kSumPartsLevels; ++level) {
          if ((part >> level & 1) != 0) AddTo(sums[level], size, sum);
        }
      }
      CastRange(sum, size, o + begin);
    });
  });
}

void Cast(const CpuContext& cpu, const Tensor& in, const Tensor& out) {
  WithType(in.dtype(), [&](auto in_type) {
    WithType(out.dtype(), [&](auto out_type) {
      const auto* from = in.data<decltype(in_type)>();
      auto* to = out.data<decltype(out_type)>();
      ParallelBlocks(cpu, in.elements(), kGrain,
                     [=](int64_t begin, int64_t end) { CastRange(from + begin, end - begin, to + begin); });
    });
  });
}

void CopyColumns(const CpuContext& cpu, const HeadColumns& from, int64_t columns, const HeadColumns& to) {
  const int64_t in_stride = from.rows.dim(1), out_stride = to.rows.dim(1);
  WithType(from.rows.dtype(), [&](auto in_type) {
    WithType(to.rows.dtype(), [&](auto out_type) {
      const auto* in = from.rows.data<decltype(in_type)>() + from.first;
      auto* out = to.rows.data<decltype(out_type)>() + to.first;
      ParallelBlocks(cpu, from.rows.dim(0), RowGrain(columns), [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) CastRange(in + i * in_stride, columns, out + i * out_stride);
      });
    });
  });
}

void Fill(const CpuContext& cpu, const Tensor& x, float value) {
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    T* data = x.data<T>();
    const bool past_caches = x.bytes() >= kBeyondCaches;
    ParallelBlocks(cpu, x.elements(), kGrain, [=](int64_t begin, int64_t end) {
      FillRange(data + begin, data + end, T(value), past_caches);
    });
  });
}

}  // namespace trefoil::cpu
