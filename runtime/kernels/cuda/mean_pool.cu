#include "runtime/kernels/cuda/vector.h"

namespace trefoil::cuda {
namespace {

struct DividedBy {
  float divisor;
  __device__ float operator()(float x) const { return x / divisor; }
};

constexpr int kTokenLanes = 8;

// lengths: may be null.
__device__ inline int64_t LengthOf(const int32_t* lengths, int64_t sample, int64_t tokens) {
  return lengths == nullptr ? tokens : lengths[sample];
}

// Block (sample, x) takes 32 packs of columns; its thread y adds tokens first + y, first + y + kTokenLanes ... of the
// sample, then the threads' sums are added in order of y.
template <typename A, typename T>
__global__ void __launch_bounds__(32 * kTokenLanes)
    MeanPoolKernel(const T* x, int64_t tokens, const int32_t* lengths, int64_t first, int columns, T* y) {
  constexpr int W = A::kWidth;
  __shared__ float sums[kTokenLanes][32 * W];
  const int64_t sample = blockIdx.x;
  const int begin = static_cast<int>(blockIdx.y) * 32 * W, j = begin + static_cast<int>(threadIdx.x) * W;
  const int64_t length = LengthOf(lengths, sample, tokens);
  const T* rows = x + sample * tokens * columns + j;
  Pack<W> sum = {};
  if (j < columns) {
#pragma unroll 4
    for (int64_t i = first + threadIdx.y; i < length; i += kTokenLanes) {
      sum = Apply<W>(Plus(), sum, Load<A>(rows + i * columns));
    }
  }
#pragma unroll
  for (int k = 0; k < W; ++k) sums[threadIdx.y][threadIdx.x * W + k] = sum.v[k];
  __syncthreads();
  const float divisor = static_cast<float>(max(length - first, int64_t{1}));
  for (int c = static_cast<int>(threadIdx.y * 32 + threadIdx.x); c < 32 * W; c += 32 * kTokenLanes) {
    float total = sums[0][c];
    for (int lane = 1; lane < kTokenLanes; ++lane) total += sums[lane][c];
    if (begin + c < columns) StoreElement(y + sample * columns + begin + c, total / divisor);
  }
}

// A block takes a row of dx.
template <typename A, typename T>
__global__ void __launch_bounds__(kMaxRowThreads)
    MeanPoolBackwardKernel(const T* dy, int64_t tokens, const int32_t* lengths, int64_t first, int columns, T* dx) {
  constexpr int W = A::kWidth;
  const int64_t row = blockIdx.x, sample = row / tokens, token = row % tokens;
  const int64_t length = LengthOf(lengths, sample, tokens);
  const bool pooled = first <= token && token < length;
  const DividedBy divided = {static_cast<float>(length - first)};
  const int step = static_cast<int>(blockDim.x) * W;
  for (int j = static_cast<int>(threadIdx.x) * W; j < columns; j += step) {
    Pack<W> pack = {};
    if (pooled) pack = Apply<W>(divided, Load<A>(dy + sample * columns + j));
    Store<A>(dx + row * columns + j, pack);
  }
}

const int32_t* DataOf(const Tensor& lengths) { return lengths.defined() ? lengths.data<int32_t>() : nullptr; }

}  // namespace

void MeanPool(const CudaContext& cuda, const Tensor& x, int64_t tokens, const Tensor& lengths, int64_t first,
              const Tensor& y) {
  const int64_t samples = y.dim(0), columns = y.dim(1);
  if (y.elements() == 0) return;
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* in = x.data<T>();
    WithAccess<kFullWidth<T>>(columns, Aligned<kFullWidth<T>>(in), [&](auto access) {
      using A = decltype(access);
      const dim3 grid(GridSize(samples), GridSize(Blocks(columns, 32 * A::kWidth)));
      Launch(cuda, MeanPoolKernel<A, T>, grid, dim3(32, kTokenLanes), 0, in, tokens, DataOf(lengths), first,
             RowIndex(columns), y.data<T>());
    });
  });
}

void MeanPoolBackward(const CudaContext& cuda, const Tensor& dy, int64_t tokens, const Tensor& lengths, int64_t first,
                      const Tensor& dx) {
  const int64_t rows = dx.dim(0), columns = dx.dim(1);
  if (dx.elements() == 0) return;
  WithType(dy.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* d = dy.data<T>();
    T* out = dx.data<T>();
    WithAccess<kFullWidth<T>>(columns, Aligned<kFullWidth<T>>(d, out), [&](auto access) {
      using A = decltype(access);
      Launch(cuda, MeanPoolBackwardKernel<A, T>, GridSize(rows), RowThreads(columns, A::kWidth), 0, d, tokens,
             DataOf(lengths), first, RowIndex(columns), out);
    });
  });
}

}  // namespace trefoil::cuda
