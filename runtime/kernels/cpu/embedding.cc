#include "runtime/kernels/cpu/vector.h"

namespace trefoil::cpu {

void Embedding(const CpuContext& cpu, const Tensor& ids, const Tensor& table, int64_t first_row, const Tensor& y,
               Accumulate accumulate) {
  const int64_t rows = table.dim(0), columns = table.dim(1);
  const int32_t* id = ids.data<int32_t>();
  WithType(y.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* source = table.data<T>();
    T* out = y.data<T>();
    ParallelBlocks(cpu, y.dim(0), RowGrain(columns), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = id[i] - first_row;
        const bool mine = 0 <= row && row < rows;
        T* to = out + i * columns;
        const T* from = source + row * columns;
        if (accumulate == Accumulate::kNo) {
          if (mine) {
            std::copy_n(from, columns, to);
          } else {
            std::fill_n(to, columns, T(0.0f));
          }
        } else if (mine) {
#pragma omp simd
          for (int64_t j = 0; j < columns; ++j) Store(to[j], static_cast<float>(to[j]) + static_cast<float>(from[j]));
        }
      }
    });
  });
}

// Tasks are ranges of columns: several rows may add to one row of the table, and must do so in order.
void EmbeddingBackward(const CpuContext& cpu, const Tensor& ids, const Tensor& dy, int64_t first_row,
                       const Tensor& d_table) {
  const int64_t rows = d_table.dim(0), columns = d_table.dim(1), count = dy.dim(0);
  const int32_t* id = ids.data<int32_t>();
  float* out = d_table.data<float>();
  const int64_t block = std::max<int64_t>(64, Blocks(columns, cpu.threads));
  WithType(dy.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* d = dy.data<T>();
    ParallelBlocks(cpu, columns, block, [=](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < count; ++i) {
        const int64_t row = id[i] - first_row;
        if (row < 0 || row >= rows) continue;
        float* to = out + row * columns;
        const T* from = d + i * columns;
#pragma omp simd
        for (int64_t j = begin; j < end; ++j) to[j] += static_cast<float>(from[j]);
      }
    });
  });
}

}  // namespace trefoil::cpu
