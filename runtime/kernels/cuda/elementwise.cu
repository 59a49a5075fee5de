#include <algorithm>
#include <numeric>

#include "runtime/kernels/cuda/vector.h"

namespace trefoil::cuda {
namespace {

struct TimesFactor {
  float factor;
  __device__ float operator()(float x) const { return factor * x; }
};
struct Same {
  __device__ float operator()(float x) const { return x; }
};
struct Always {
  float value;
  __device__ float operator()() const { return value; }
};

// A block takes a row.
template <typename A, typename T>
__global__ void __launch_bounds__(kMaxRowThreads) AddBiasKernel(T* x, const T* bias, int columns) {
  T* row = x + int64_t{blockIdx.x} * columns;
  const int step = static_cast<int>(blockDim.x) * A::kWidth;
#pragma unroll 2
  for (int j = static_cast<int>(threadIdx.x) * A::kWidth; j < columns; j += step) {
    Store<A>(row + j, Apply<A::kWidth>(Plus(), Load<A>(row + j), Load<A>(bias + j)));
  }
}

constexpr int kColumnLanes = 8;

// partial[part][j] = sum over the part's rows of dy[i][j]. Block (x, part) takes 32 packs of columns; its thread y adds
// rows y, y + kColumnLanes ... of the part, then the threads' sums are added in order of y.
template <typename A, typename T>
__global__ void __launch_bounds__(32 * kColumnLanes)
    ColumnSumKernel(const T* dy, int64_t rows, int64_t columns, int64_t part_rows, float* partial) {
  constexpr int W = A::kWidth;
  __shared__ float sums[kColumnLanes][32 * W];
  const int64_t first = blockIdx.x * int64_t{32 * W}, j = first + threadIdx.x * W;
  const int64_t begin = blockIdx.y * part_rows, end = min(rows, begin + part_rows);
  Pack<W> sum = {};
  if (j < columns) {
#pragma unroll 4
    for (int64_t i = begin + threadIdx.y; i < end; i += kColumnLanes) {
      sum = Apply<W>(Plus(), sum, Load<A>(dy + i * columns + j));
    }
  }
#pragma unroll
  for (int k = 0; k < W; ++k) sums[threadIdx.y][threadIdx.x * W + k] = sum.v[k];
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.y * 32 + threadIdx.x); c < 32 * W; c += 32 * kColumnLanes) {
    float total = sums[0][c];
    for (int lane = 1; lane < kColumnLanes; ++lane) total += sums[lane][c];
    if (first + c < columns) partial[blockIdx.y * columns + first + c] = total;
  }
}

// The sum of kCount parts, n elements apart, in the one order of addition.
template <typename A, int kCount, typename T>
__device__ inline Pack<A::kWidth> SumOfParts(const T* parts, int64_t n) {
  if constexpr (kCount == 1) {
    return Load<A>(parts);
  } else {
    return Apply<A::kWidth>(Plus(), SumOfParts<A, kCount / 2>(parts, n),
                            SumOfParts<A, kCount / 2>(parts + kCount / 2 * n, n));
  }
}

// A thread takes a pack of columns. Parts, fewer than 8 * 2^kLevels, are added by eights; sums[i]: of 2^i eights in a
// row that wait for as many behind them, in registers, since the compiler knows every i.
template <typename A, int kLevels, typename T>
__global__ void SumPartsKernel(const T* parts, int64_t count, int64_t n, T* out) {
  constexpr int W = A::kWidth;
  const int64_t j = (blockIdx.x * int64_t{blockDim.x} + threadIdx.x) * W;
  if (j >= n) return;
  parts += j;
  Pack<W> sums[kLevels];
  const int64_t eights = count / 8;
  for (int64_t eight = 0; eight < eights; ++eight) {
    Pack<W> sum = SumOfParts<A, 8>(parts + eight * 8 * n, n);
    bool carried = true;
#pragma unroll
    for (int level = 0; level < kLevels; ++level) {
      const bool waits = (eight >> level & 1) != 0;
      if (carried && waits) sum = Apply<W>(Plus(), sums[level], sum);
      if (carried && !waits) sums[level] = sum;
      carried = carried && waits;
    }
  }
  // What is left, from behind: 1, 2 and 4 parts, then the eights that wait.
  Pack<W> sum = {};
  bool any = false;
  const auto before = [&](const Pack<W>& earlier) {
    sum = any ? Apply<W>(Plus(), earlier, sum) : earlier;
    any = true;
  };
  if ((count & 1) != 0) before(SumOfParts<A, 1>(parts + (count - 1) * n, n));
  if ((count & 2) != 0) before(SumOfParts<A, 2>(parts + (count / 2 * 2 - 2) * n, n));
  if ((count & 4) != 0) before(SumOfParts<A, 4>(parts + (count / 4 * 4 - 4) * n, n));
#pragma unroll
  for (int level = 0; level < kLevels; ++level) {
    if ((eights >> level & 1) != 0) before(sums[level]);
  }
  Store<A>(out + j, sum);
}

// A block takes a row of some columns.
template <typename A, typename In, typename Out>
__global__ void __launch_bounds__(kMaxRowThreads)
    CopyColumnsKernel(const In* in, int64_t in_stride, int columns, Out* out, int64_t out_stride) {
  in += blockIdx.x * in_stride;
  out += blockIdx.x * out_stride;
  const int step = static_cast<int>(blockDim.x) * A::kWidth;
  for (int j = static_cast<int>(threadIdx.x) * A::kWidth; j < columns; j += step) Store<A>(out + j, Load<A>(in + j));
}

}  // namespace

void BiasBackward(const CudaContext& cuda, const Tensor& dy, const Tensor& d_bias) {
  const int64_t rows = dy.dim(0), columns = dy.dim(1);
  if (dy.elements() == 0) return;
  WithType(dy.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* in = dy.data<T>();
    WithAccess<kFullWidth<T>>(columns, Aligned<kFullWidth<T>>(in), [&](auto access) {
      using A = decltype(access);
      const int64_t blocks = Blocks(columns, 32 * A::kWidth);
      // As many parts as make about 2 kSumParts blocks, of 4 rows a thread or more.
      const int64_t most = std::min(Blocks(rows, 4 * kColumnLanes), Blocks(2 * kSumParts, blocks));
      const int64_t part_rows = Blocks(rows, most), parts = Blocks(rows, part_rows);
      const Workspace<float> partial(cuda, parts * columns);
      Launch(cuda, ColumnSumKernel<A, T>, dim3(GridSize(blocks), GridSize(parts)), dim3(32, kColumnLanes), 0, in, rows,
             columns, part_rows, partial.data());
      AddPartials(cuda, partial.data(), parts, columns, columns, d_bias.data<float>());
    });
  });
}

void AddBias(const CudaContext& cuda, const Tensor& x, const Tensor& bias) {
  const int64_t rows = x.dim(0), columns = x.dim(1);
  if (x.elements() == 0) return;
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    T* data = x.data<T>();
    const T* b = bias.data<T>();
    WithAccess<kFullWidth<T>>(columns, Aligned<kFullWidth<T>>(data, b), [&](auto access) {
      using A = decltype(access);
      Launch(cuda, AddBiasKernel<A, T>, GridSize(rows), RowThreads(columns, A::kWidth), 0, data, b, RowIndex(columns));
    });
  });
}

void Add(const CudaContext& cuda, const Tensor& a, const Tensor& b, const Tensor& out) {
  WithType(a.dtype(), [&](auto type) {
    using T = decltype(type);
    Map(cuda, a.elements(), Plus(), out.data<T>(), a.data<T>(), b.data<T>());
  });
}

void Scale(const CudaContext& cuda, const Tensor& x, float factor, const Tensor& y) {
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    Map(cuda, x.elements(), TimesFactor{factor}, y.data<T>(), x.data<T>());
  });
}

void SumParts(const CudaContext& cuda, const Tensor& parts, const Tensor& out) {
  const int64_t count = parts.dim(0), n = parts.dim(1);
  if (n == 0) return;
  WithType(parts.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* in = parts.data<T>();
    T* o = out.data<T>();
    WithAccess<kFullWidth<T>>(n, Aligned<kFullWidth<T>>(in, o), [&](auto access) {
      using A = decltype(access);
      const auto kernel = count < 16 ? SumPartsKernel<A, 1, T> : SumPartsKernel<A, kSumPartsLevels - 3, T>;
      Launch(cuda, kernel, GridSize(Blocks(n, 256 * A::kWidth)), 256, 0, in, count, n, o);
    });
  });
}

void Cast(const CudaContext& cuda, const Tensor& in, const Tensor& out) {
  WithType(in.dtype(), [&](auto in_type) {
    WithType(out.dtype(), [&](auto out_type) {
      Map(cuda, in.elements(), Same(), out.data<decltype(out_type)>(), in.data<decltype(in_type)>());
    });
  });
}

void CopyColumns(const CudaContext& cuda, const HeadColumns& from, int64_t columns, const HeadColumns& to) {
  const int64_t rows = from.rows.dim(0), in_stride = from.rows.dim(1), out_stride = to.rows.dim(1);
  if (rows * columns == 0) return;
  WithType(from.rows.dtype(), [&](auto in_type) {
    WithType(to.rows.dtype(), [&](auto out_type) {
      using In = decltype(in_type);
      using Out = decltype(out_type);
      constexpr int W = std::max(kFullWidth<In>, kFullWidth<Out>);
      const In* in = from.rows.data<In>() + from.first;
      Out* out = to.rows.data<Out>() + to.first;
      // Packs of every row lie where those of the first do.
      const int64_t pitch = std::gcd(columns, std::gcd(in_stride, out_stride));
      WithAccess<W>(pitch, Aligned<W>(in, out), [&](auto access) {
        using A = decltype(access);
        Launch(cuda, CopyColumnsKernel<A, In, Out>, GridSize(rows), RowThreads(columns, A::kWidth), 0, in, in_stride,
               RowIndex(columns), out, out_stride);
      });
    });
  });
}

void Fill(const CudaContext& cuda, const Tensor& x, float value) {
  WithType(x.dtype(), [&](auto type) { Map(cuda, x.elements(), Always{value}, x.data<decltype(type)>()); });
}

}  // namespace trefoil::cuda
