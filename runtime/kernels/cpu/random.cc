#include "runtime/kernels/dropout.h"
#include "runtime/random.h"

namespace trefoil::cpu {
namespace {

// Elements first .. first + n of the global tensor. A dropped element is 0 whatever it was.
template <typename T>
void DropoutRange(const T* x, int64_t n, uint64_t first, const DropoutMask& mask, T* y) {
  constexpr int64_t kRun = 512;
  float buffer[DropoutBuffer(kRun)];
  for (int64_t i = 0; i < n; i += kRun) {
    const int64_t count = std::min(kRun, n - i);
    const float* factors = DropoutFactors(mask.probability, mask.key, first + static_cast<uint64_t>(i), count, buffer);
#pragma omp simd
    for (int64_t j = 0; j < count; ++j) {
      Store(y[i + j], factors[j] == 0.0f ? 0.0f : static_cast<float>(x[i + j]) * factors[j]);
    }
  }
}

// Rows [begin, end) of x, by rows together.
template <typename T>
void DropoutRows(const T* x, int64_t begin, int64_t end, int64_t columns, const DropoutMask& mask, T* y) {
  const float kept = 1.0f / (1.0f - mask.probability);
  for (int64_t i = begin; i < end; ++i) {
    const T* in = x + i * columns;
    T* out = y + i * columns;
    if (Uniform(mask.key, static_cast<uint64_t>(mask.GlobalRow(i) / mask.rows_together)) < mask.probability) {
      std::fill_n(out, columns, T(0.0f));
    } else {
#pragma omp simd
      for (int64_t j = 0; j < columns; ++j) Store(out[j], static_cast<float>(in[j]) * kept);
    }
  }
}

void FillNormalRange(float* x, int64_t n, uint64_t first, uint64_t key, float deviation) {
  std::array<float, 4> normals = {};
  for (int64_t i = 0; i < n; ++i) {
    const uint64_t element = first + static_cast<uint64_t>(i);
    if (i == 0 || element % 4 == 0) {
      const PhiloxBlock block = Philox(key, element / 4);
      const auto low = NormalPair(block[0], block[1]), high = NormalPair(block[2], block[3]);
      normals = {low[0], low[1], high[0], high[1]};
    }
    x[i] = deviation * normals[element % 4];
  }
}

}  // namespace

void Dropout(const CpuContext& cpu, const Tensor& x, const DropoutMask& mask, const Tensor& y) {
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    const int64_t n = x.elements();
    if (mask.probability == 0) {
      if (in == out) return;
      ParallelBlocks(cpu, n, kGrain, [=](int64_t i, int64_t end) { std::copy(in + i, in + end, out + i); });
      return;
    }
    if (mask.rows_together > 0) {
      const int64_t columns = x.dim(1);
      ParallelBlocks(cpu, x.dim(0), RowGrain(columns), [=](int64_t i, int64_t end) {
        DropoutRows(in, i, end, columns, mask, out);
      });
      return;
    }
    if (mask.length > 0) {
      const int64_t columns = x.dim(1);
      ParallelBlocks(cpu, x.dim(0), RowGrain(columns), [=](int64_t i, int64_t end) {
        for (; i < end; ++i) {
          const auto first = static_cast<uint64_t>(mask.GlobalRow(i) * columns);
          DropoutRange(in + i * columns, columns, first, mask, out + i * columns);
        }
      });
      return;
    }
    const uint64_t first = static_cast<uint64_t>(mask.first_row * mask.global_columns);
    ParallelBlocks(cpu, n, kGrain, [=](int64_t i, int64_t end) {
      DropoutRange(in + i, end - i, first + static_cast<uint64_t>(i), mask, out + i);
    });
  });
}

void FillNormal(const CpuContext& cpu, const Tensor& x, const Shape& global, const Shape& offset, uint64_t key,
                float deviation) {
  if (x.elements() == 0) return;
  const int rank = global.rank();
  const int64_t columns = rank == 0 ? 1 : x.dim(rank - 1), rows = x.elements() / columns;
  float* data = x.data<float>();
  // Long rows are cut too, so that a tensor of one dim is split over threads.
  const int64_t pieces = Blocks(columns, kGrain / 4);
  ParallelFor(cpu.threads, rows * pieces, [=, &x](int64_t task) {
    const int64_t row = task / pieces, begin = task % pieces * (kGrain / 4);
    // Where the row's first element lies in the global tensor.
    int64_t first = rank == 0 ? 0 : offset[rank - 1], rest = row, stride = rank == 0 ? 1 : global[rank - 1];
    for (int dim = rank - 2; dim >= 0; --dim) {
      first += (offset[dim] + rest % x.dim(dim)) * stride;
      rest /= x.dim(dim);
      stride *= global[dim];
    }
    FillNormalRange(data + row * columns + begin, std::min(columns - begin, kGrain / 4),
                    static_cast<uint64_t>(first + begin), key, deviation);
  });
}

}  // namespace trefoil::cpu
