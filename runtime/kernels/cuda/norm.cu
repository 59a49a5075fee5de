#include <initializer_list>
#include <numeric>
#include <type_traits>

#include "runtime/kernels/cuda/vector.h"

namespace trefoil::cuda {
namespace {

// The sum of f(pack j) over the packs of a row, over the threads of one threadIdx.y.
template <int W, typename F>
__device__ float RowSum(int columns, const F& f) {
  float sum = 0;
  const int step = static_cast<int>(blockDim.x) * W;
#pragma unroll 4
  for (int j = static_cast<int>(threadIdx.x) * W; j < columns; j += step) sum += f(j);
  return GroupSum(sum);
}

template <int W>
__device__ float SumOf(const Pack<W>& pack) {
  float sum = pack.v[0];
#pragma unroll
  for (int k = 1; k < W; ++k) sum += pack.v[k];
  return sum;
}

// A block takes a row and reads it again for each of its sums: from the first cache.
template <typename A, typename T>
__global__ void __launch_bounds__(kMaxRowThreads)
    LayerNormKernel(const T* x, const T* weight, const T* bias, float epsilon, int columns, T* y, float* mean,
                    float* rstd) {
  constexpr int W = A::kWidth;
  const T* row = x + int64_t{blockIdx.x} * columns;
  T* out = y + int64_t{blockIdx.x} * columns;
  const float center = RowSum<W>(columns, [&](int j) { return SumOf(Load<A>(row + j)); }) / columns;
  const float squares = RowSum<W>(columns, [&](int j) {
    const auto square = [&](float v) { return (v - center) * (v - center); };
    return SumOf(Apply<W>(square, Load<A>(row + j)));
  });
  const float scale = 1.0f / sqrtf(squares / columns + epsilon);
  const int step = static_cast<int>(blockDim.x) * W;
#pragma unroll 2
  for (int j = static_cast<int>(threadIdx.x) * W; j < columns; j += step) {
    const auto normal = [&](float v, float w, float b) { return (v - center) * scale * w + b; };
    Store<A>(out + j, Apply<W>(normal, Load<A>(row + j), Load<A>(weight + j), Load<A>(bias + j)));
  }
  if (threadIdx.x == 0) {
    mean[blockIdx.x] = center;
    rstd[blockIdx.x] = scale;
  }
}

// Rows that are normed, each by itself: `heads` in each row of a matrix.
template <typename T>
struct NormedRows {
  NormedRows(const HeadColumns& x, int64_t heads, int64_t columns)
      : data(x.rows.data<std::remove_const_t<T>>() + x.first),
        stride(x.rows.dim(1)),
        heads(static_cast<int>(heads)),
        columns(RowIndex(columns)) {}
  __device__ T* operator[](int64_t i) const {
    return heads == 1 ? data + i * stride : data + i / heads * stride + i % heads * columns;
  }
  T* data;
  int64_t stride;
  int heads, columns;
};

// A threadIdx.y takes a row.
template <typename A, typename T>
__global__ void __launch_bounds__(kMaxRowThreads)
    RmsNormKernel(NormedRows<const T> x, const T* weight, float epsilon, int64_t rows, NormedRows<T> y, float* rstd) {
  constexpr int W = A::kWidth;
  const int64_t i = blockIdx.x * int64_t{blockDim.y} + threadIdx.y;
  const int columns = i < rows ? x.columns : 0;
  const T* row = x[i];
  T* out = y[i];
  const float squares = RowSum<W>(columns, [&](int j) {
    const auto square = [](float v) { return v * v; };
    return SumOf(Apply<W>(square, Load<A>(row + j)));
  });
  const float scale = 1.0f / sqrtf(squares / columns + epsilon);
  const int step = static_cast<int>(blockDim.x) * W;
#pragma unroll 2
  for (int j = static_cast<int>(threadIdx.x) * W; j < columns; j += step) {
    const auto normal = [&](float v, float w) { return v * scale * w; };
    Store<A>(out + j, Apply<W>(normal, Load<A>(row + j), Load<A>(weight + j)));
  }
  if (threadIdx.x == 0 && i < rows) rstd[i] = scale;
}

struct BackwardSizes {
  int64_t rows, part_rows;
  int columns;
};

// With n = (x - mean) * rstd and g = dy * weight,
// dx = d_residual + rstd * (g - [mean of g] - n * mean of (g * n)); the bracket is layer norm's alone.
// A block takes part_rows rows, a threadIdx.y one of them at a time, and adds up what they give to d_weight and d_bias
// in its own sums [C] or [2, C]: in shared memory, or where that is too small (then blockDim.y is 1) in `partial`.
// A thread touches only its own columns' sums until the row loop is over. partial [parts, C] or [parts, 2, C] is
// written.
template <bool kLayerNorm, bool kShared, typename A, typename T>
__global__ void __launch_bounds__(kMaxRowThreads, 2)
    BackwardKernel(NormedRows<const T> dy, NormedRows<const T> x, const T* weight, const float* mean, const float* rstd,
                   const T* d_residual, BackwardSizes sizes, NormedRows<T> dx, float* partial) {
  constexpr int W = A::kWidth;
  using Sums = Access<W, true>;  // their starts are ours to choose
  const int columns = sizes.columns, stride = kLayerNorm ? 2 * columns : columns;
  const int step = static_cast<int>(blockDim.x) * W, start = static_cast<int>(threadIdx.x) * W;
  float* const of_block = partial + int64_t{blockIdx.x} * stride;
  float* const of_groups = SharedMemory<float>();
  float* const dw = kShared ? of_groups + threadIdx.y * stride : of_block;
  float* const db = dw + columns;
  for (int j = start; j < columns; j += step) {
    Store<Sums>(dw + j, Pack<W>{});
    if (kLayerNorm) Store<Sums>(db + j, Pack<W>{});
  }
  const int64_t begin = blockIdx.x * sizes.part_rows, end = min(sizes.rows, begin + sizes.part_rows);
  // The same number of rounds for every threadIdx.y: sums over a row's threads are taken by the whole block.
  for (int64_t first = begin; first < end; first += blockDim.y) {
    const int64_t i = first + threadIdx.y;
    const int mine = i < end ? columns : 0;
    const T *const dy_row = dy[i], *const x_row = x[i];
    const float center = kLayerNorm && mine > 0 ? mean[i] : 0.0f, scale = mine > 0 ? rstd[i] : 0.0f;
    float sum_g = 0, sum_gn = 0;
    for (int j = start; j < mine; j += step) {
      const Pack<W> d = Load<A>(dy_row + j), v = Load<A>(x_row + j), w = Load<A>(weight + j);
      Pack<W> sum_w = Load<Sums>(dw + j);
#pragma unroll
      for (int k = 0; k < W; ++k) {
        const float dn = d.v[k] * ((v.v[k] - center) * scale);
        sum_w.v[k] += dn;
        sum_gn += dn * w.v[k];
        if (kLayerNorm) sum_g += d.v[k] * w.v[k];
      }
      Store<Sums>(dw + j, sum_w);
      if (kLayerNorm) Store<Sums>(db + j, Apply<W>([](float a, float b) { return a + b; }, Load<Sums>(db + j), d));
    }
    const float mean_g = kLayerNorm ? GroupSum(sum_g) / columns : 0.0f, mean_gn = GroupSum(sum_gn) / columns;
    const auto slope = [&](float d, float v, float w) {
      const float n = (v - center) * scale;
      return scale * (d * w - mean_g - n * mean_gn);
    };
    for (int j = start; j < mine; j += step) {
      Pack<W> out = Apply<W>(slope, Load<A>(dy_row + j), Load<A>(x_row + j), Load<A>(weight + j));
      if (d_residual != nullptr) {
        out = Apply<W>([](float a, float b) { return a + b; }, Load<A>(d_residual + i * columns + j), out);
      }
      Store<A>(dx[i] + j, out);
    }
  }
  if (!kShared) return;
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x); c < stride; c += blockDim.x * blockDim.y) {
    float sum = of_groups[c];
    for (int group = 1; group < static_cast<int>(blockDim.y); ++group) sum += of_groups[group * stride + c];
    of_block[c] = sum;
  }
}

// Shared memory that every GPU since compute capability 8.0 gives a block that asks for it.
constexpr int64_t kSharedBytes = 96 << 10;

// Where packs of every row of `x` and head lie where those of the first do: the columns that they follow each other by.
int64_t Pitch(int64_t columns, std::initializer_list<const HeadColumns*> x) {
  for (const HeadColumns* one : x) columns = std::gcd(columns, one->rows.dim(1));
  return columns;
}

// Both backwards. mean, d_bias: layer norm's alone.
template <bool kLayerNorm>
void Backward(const CudaContext& cuda, const HeadColumns& dy, const HeadColumns& x, int64_t heads, const Tensor& weight,
              const float* mean, const float* rstd, const Tensor& d_residual, const HeadColumns& dx, float* d_weight,
              float* d_bias) {
  const int64_t rows = x.rows.dim(0) * heads, columns = weight.dim(0);
  if (rows == 0 || columns == 0) return;
  const int64_t stride = kLayerNorm ? 2 * columns : columns, sum_bytes = stride * int64_t{sizeof(float)};
  const bool shared = sum_bytes <= kSharedBytes;
  WithType(weight.dtype(), [&](auto type) {
    using T = decltype(type);
    const NormedRows<const T> d(dy, heads, columns), in(x, heads, columns);
    const NormedRows<T> out(dx, heads, columns);
    const T* const w = weight.data<T>();
    const T* const residual = d_residual.defined() ? d_residual.data<T>() : nullptr;
    const bool aligned = Aligned<kFullWidth<T>>(d.data, in.data, w, residual, out.data);
    WithAccess<kFullWidth<T>>(Pitch(columns, {&dy, &x, &dx}), aligned, [&](auto access) {
      using A = decltype(access);
      const int threads = RowThreads(columns, A::kWidth);
      const int64_t groups =
          shared ? std::clamp<int64_t>(std::min(int64_t{256} / threads, kSharedBytes / sum_bytes), 1, 8) : 1;
      const int64_t part_rows = Blocks(rows, std::min(kSumParts, Blocks(rows, groups)));
      const int64_t parts = Blocks(rows, part_rows);
      const Workspace<float> partial(cuda, parts * stride);
      const auto kernel = shared ? BackwardKernel<kLayerNorm, true, A, T> : BackwardKernel<kLayerNorm, false, A, T>;
      const auto bytes = static_cast<size_t>(shared ? groups * sum_bytes : 0);
      Launch(cuda, kernel, GridSize(parts), dim3(threads, GridSize(groups)), bytes, d, in, w, mean, rstd, residual,
             BackwardSizes{rows, part_rows, RowIndex(columns)}, out, partial.data());
      AddPartials(cuda, partial.data(), parts, stride, columns, d_weight);
      if (kLayerNorm) AddPartials(cuda, partial.data() + columns, parts, stride, columns, d_bias);
    });
  });
}

}  // namespace

void LayerNorm(const CudaContext& cuda, const Tensor& x, const Tensor& weight, const Tensor& bias, float epsilon,
               const Tensor& y, const Tensor& mean, const Tensor& rstd) {
  const int64_t rows = x.dim(0), columns = x.dim(1);
  if (rows == 0) return;
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    const T *in = x.data<T>(), *w = weight.data<T>(), *b = bias.data<T>();
    T* out = y.data<T>();
    WithAccess<kFullWidth<T>>(columns, Aligned<kFullWidth<T>>(in, w, b, out), [&](auto access) {
      using A = decltype(access);
      Launch(cuda, LayerNormKernel<A, T>, GridSize(rows), RowThreads(columns, A::kWidth), 0, in, w, b, epsilon,
             RowIndex(columns), out, mean.data<float>(), rstd.data<float>());
    });
  });
}

void LayerNormBackward(const CudaContext& cuda, const Tensor& dy, const Tensor& x, const Tensor& weight,
                       const Tensor& mean, const Tensor& rstd, const Tensor& d_residual, const Tensor& dx,
                       const Tensor& d_weight, const Tensor& d_bias) {
  Backward<true>(cuda, {dy, 0}, {x, 0}, 1, weight, mean.data<float>(), rstd.data<float>(), d_residual, {dx, 0},
                 d_weight.data<float>(), d_bias.data<float>());
}

void RmsNorm(const CudaContext& cuda, const HeadColumns& x, int64_t heads, const Tensor& weight, float epsilon,
             const HeadColumns& y, const Tensor& rstd) {
  const int64_t rows = x.rows.dim(0) * heads, columns = weight.dim(0);
  if (rows == 0) return;
  WithType(weight.dtype(), [&](auto type) {
    using T = decltype(type);
    const NormedRows<const T> in(x, heads, columns);
    const NormedRows<T> out(y, heads, columns);
    const T* const w = weight.data<T>();
    const bool aligned = Aligned<kFullWidth<T>>(in.data, w, out.data);
    WithAccess<kFullWidth<T>>(Pitch(columns, {&x, &y}), aligned, [&](auto access) {
      using A = decltype(access);
      const int threads = RowThreads(columns, A::kWidth), together = heads == 1 ? 1 : std::max(1, 256 / threads);
      Launch(cuda, RmsNormKernel<A, T>, GridSize(Blocks(rows, together)), dim3(threads, GridSize(together)), 0, in, w,
             epsilon, rows, out, rstd.data<float>());
    });
  });
}

void RmsNormBackward(const CudaContext& cuda, const HeadColumns& dy, const HeadColumns& x, int64_t heads,
                     const Tensor& weight, const Tensor& rstd, const Tensor& d_residual, const HeadColumns& dx,
                     const Tensor& d_weight) {
  Backward<false>(cuda, dy, x, heads, weight, nullptr, rstd.data<float>(), d_residual, dx, d_weight.data<float>(),
                  nullptr);
}

}  // namespace trefoil::cuda
