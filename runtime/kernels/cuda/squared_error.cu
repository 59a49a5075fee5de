#include "runtime/kernels/cuda/vector.h"

namespace trefoil::cuda {
namespace {

struct DifferenceOf {
  __device__ float operator()(float prediction, float target) const { return prediction - target; }
};

// Row blockIdx.x's. weights: may be null.
__device__ inline float WeightOf(const float* weights) { return weights == nullptr ? 1.0f : weights[blockIdx.x]; }

// A block takes a row.
template <typename A, typename T>
__global__ void __launch_bounds__(kMaxRowThreads)
    SquaredErrorKernel(const T* prediction, const float* target, const float* weights, int columns, float* loss) {
  constexpr int W = A::kWidth;
  const int64_t at = int64_t{blockIdx.x} * columns;
  const int step = static_cast<int>(blockDim.x) * W;
  float sum = 0;
#pragma unroll 2
  for (int j = static_cast<int>(threadIdx.x) * W; j < columns; j += step) {
    const Pack<W> difference = Apply<W>(DifferenceOf(), Load<A>(prediction + at + j), Load<A>(target + at + j));
#pragma unroll
    for (int k = 0; k < W; ++k) sum += difference.v[k] * difference.v[k];
  }
  sum = GroupSum(sum);
  if (threadIdx.x != 0) return;
  const float weight = WeightOf(weights);
  loss[blockIdx.x] = weight == 0 ? 0.0f : weight * (sum / static_cast<float>(columns));
}

// A block takes a row. each: 2/P, of the mean.
template <typename A, typename T>
__global__ void __launch_bounds__(kMaxRowThreads)
    SquaredErrorBackwardKernel(const T* prediction, const float* target, const float* weights, float scale, float each,
                               int columns, T* d_prediction) {
  constexpr int W = A::kWidth;
  const int64_t at = int64_t{blockIdx.x} * columns;
  const float factor = scale * WeightOf(weights) * each;
  const int step = static_cast<int>(blockDim.x) * W;
  for (int j = static_cast<int>(threadIdx.x) * W; j < columns; j += step) {
    Pack<W> d = Apply<W>(DifferenceOf(), Load<A>(prediction + at + j), Load<A>(target + at + j));
#pragma unroll
    for (int k = 0; k < W; ++k) d.v[k] = factor == 0 ? 0.0f : factor * d.v[k];
    Store<A>(d_prediction + at + j, d);
  }
}

const float* DataOf(const Tensor& weights) { return weights.defined() ? weights.data<float>() : nullptr; }

}  // namespace

void SquaredError(const CudaContext& cuda, const Tensor& prediction, const Tensor& target, const Tensor& weights,
                  const Tensor& loss) {
  const int64_t rows = prediction.dim(0), columns = prediction.dim(1);
  if (rows == 0) return;
  const float* wanted = target.data<float>();
  WithType(prediction.dtype(), [&](auto type) {
    using T = decltype(type);
    constexpr int W = kFullWidth<T>;
    const T* in = prediction.data<T>();
    WithAccess<W>(columns, Aligned<W>(in) && Aligned<W>(wanted), [&](auto access) {
      using A = decltype(access);
      Launch(cuda, SquaredErrorKernel<A, T>, GridSize(rows), RowThreads(columns, A::kWidth), 0, in, wanted,
             DataOf(weights), RowIndex(columns), loss.data<float>());
    });
  });
}

void SquaredErrorBackward(const CudaContext& cuda, const Tensor& prediction, const Tensor& target,
                          const Tensor& weights, float scale, const Tensor& d_prediction) {
  const int64_t rows = prediction.dim(0), columns = prediction.dim(1);
  if (rows == 0) return;
  const float* wanted = target.data<float>();
  const float each = 2.0f / static_cast<float>(columns);
  WithType(prediction.dtype(), [&](auto type) {
    using T = decltype(type);
    constexpr int W = kFullWidth<T>;
    const T* in = prediction.data<T>();
    T* out = d_prediction.data<T>();
    WithAccess<W>(columns, Aligned<W>(in, out) && Aligned<W>(wanted), [&](auto access) {
      using A = decltype(access);
      Launch(cuda, SquaredErrorBackwardKernel<A, T>, GridSize(rows), RowThreads(columns, A::kWidth), 0, in, wanted,
             DataOf(weights), scale, each, RowIndex(columns), out);
    });
  });
}

}  // namespace trefoil::cuda
