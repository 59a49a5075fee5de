#include "runtime/kernels/cuda/vector.h"

namespace trefoil::cuda {
namespace {

// Which elements of the global tensor a tensor's are: all from `first` on.
struct FromFirst {
  uint64_t first;
  __device__ uint64_t operator()(int64_t i) const { return first + static_cast<uint64_t>(i); }
};
// Or those of some tokens of each sample (DropoutMask::GlobalRow).
struct OfTokens {
  int64_t first_row, columns, length;
  TokenRanges tokens;
  __device__ uint64_t operator()(int64_t i) const {
    const int64_t row = i / columns;
    return static_cast<uint64_t>(Row(row) * columns + (i - row * columns));
  }
  __device__ int64_t Row(int64_t row) const {
    const int64_t here = first_row + row;
    return length == 0 ? here : here / tokens.tokens() * length + tokens.Position(here % tokens.tokens());
  }
};

// A thread takes a pack; `global` says which element of the global tensor one is. Packs of more than one element begin
// at multiples of 4 there, where blocks of random words do, and lie side by side. A dropped element is 0 whatever it
// was.
template <typename A, typename T, typename Global>
__global__ void DropoutKernel(const T* x, int64_t n, Global global, uint64_t key, float probability, float kept, T* y) {
  constexpr int W = A::kWidth;
  const int64_t i = (blockIdx.x * int64_t{blockDim.x} + threadIdx.x) * W;
  if (i >= n) return;
  const auto drop = [=](float value, uint32_t bits) { return UniformOf(bits) < probability ? 0.0f : value * kept; };
  const uint64_t element = global(i);
  if (W > 1 && i + W <= n) {
    Pack<W> pack = Load<A>(x + i);
#pragma unroll
    for (int k = 0; k < W; k += 4) {
      const uint4 words = PhiloxWords(key, element / 4 + k / 4);
#pragma unroll
      for (int lane = 0; lane < 4 && k + lane < W; ++lane) {
        pack.v[k + lane] = drop(pack.v[k + lane], LaneOf(words, lane));
      }
    }
    Store<A>(y + i, pack);
  } else {
    for (int k = 0; k < W && i + k < n; ++k) {
      const uint4 words = PhiloxWords(key, (element + k) / 4);
      StoreElement(y + i + k, drop(ToFloat(x[i + k]), LaneOf(words, (element + k) % 4)));
    }
  }
}

// A block takes a row.
template <typename A, typename T>
__global__ void __launch_bounds__(kMaxRowThreads)
    DropoutRowsKernel(const T* x, int columns, OfTokens rows, int64_t rows_together, uint64_t key, float probability,
                      float kept, T* y) {
  constexpr int W = A::kWidth;
  const int64_t at = int64_t{blockIdx.x} * columns;
  const auto element = static_cast<uint64_t>(rows.Row(blockIdx.x) / rows_together);
  const bool dropped = UniformOf(LaneOf(PhiloxWords(key, element / 4), element % 4)) < probability;
  const int step = static_cast<int>(blockDim.x) * W;
  for (int j = static_cast<int>(threadIdx.x) * W; j < columns; j += step) {
    Pack<W> pack = {};
    if (!dropped) pack = Apply<W>([=](float value) { return value * kept; }, Load<A>(x + at + j));
    Store<A>(y + at + j, pack);
  }
}

// The box at `offset` of a row-major tensor of shape `global`.
struct Box {
  int rank;
  int64_t extent[4], offset[4], global[4];
};

// Normal of runtime/random.h.
__device__ inline float NormalOf(uint64_t key, uint64_t element) {
  const uint4 words = PhiloxWords(key, element / 4);
  const uint32_t lane = element % 4;
  const float radius = sqrtf(-2.0f * logf(1.0f - UniformOf(lane < 2 ? words.x : words.z)));
  const float angle = 6.283185307179586f * UniformOf(lane < 2 ? words.y : words.w);
  return radius * (lane % 2 == 0 ? cosf(angle) : sinf(angle));
}

// A thread takes an element: this runs once, when a run begins.
__global__ void FillNormalKernel(float* x, int64_t n, Box box, uint64_t key, float deviation) {
  const int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x;
  if (i >= n) return;
  int64_t element = 0, stride = 1, rest = i;
#pragma unroll
  for (int dim = 3; dim >= 0; --dim) {
    if (dim >= box.rank) continue;
    element += (box.offset[dim] + rest % box.extent[dim]) * stride;
    rest /= box.extent[dim];
    stride *= box.global[dim];
  }
  x[i] = deviation * NormalOf(key, static_cast<uint64_t>(element));
}

constexpr int kThreads = 256;

}  // namespace

void Dropout(const CudaContext& cuda, const Tensor& x, const DropoutMask& mask, const Tensor& y) {
  const int64_t n = x.elements();
  if (n == 0) return;
  if (mask.probability == 0) {
    if (x.raw() == y.raw()) return;
    const auto bytes = static_cast<size_t>(x.bytes());
    TREFOIL_CUDA(cudaMemcpyAsync(y.raw(), x.raw(), bytes, cudaMemcpyDeviceToDevice, cuda.stream));
    return;
  }
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    constexpr int W = kFullWidth<T>;
    const T* in = x.data<T>();
    T* out = y.data<T>();
    const float kept = 1.0f / (1.0f - mask.probability);
    const int64_t columns = x.dim(1);
    const OfTokens rows = {mask.first_row, columns, mask.length, mask.tokens};
    if (mask.rows_together > 0) {
      WithAccess<W>(columns, Aligned<W>(in, out), [&](auto access) {
        using A = decltype(access);
        Launch(cuda, DropoutRowsKernel<A, T>, GridSize(x.dim(0)), RowThreads(columns, A::kWidth), 0, in,
               RowIndex(columns), rows, mask.rows_together, mask.key, mask.probability, kept, out);
      });
      return;
    }
    const auto launch = [&](auto global, bool packs) {
      using Global = decltype(global);
      const auto kernel = packs ? DropoutKernel<Access<W, true>, T, Global> : DropoutKernel<OneByOne, T, Global>;
      Launch(cuda, kernel, GridSize(Blocks(n, kThreads * (packs ? W : 1))), kThreads, 0, in, n, global, mask.key,
             mask.probability, kept, out);
    };
    if (mask.length > 0) return launch(rows, columns % W == 0 && columns % 4 == 0 && Aligned<W>(in, out));
    const auto first = static_cast<uint64_t>(mask.first_row * mask.global_columns);
    launch(FromFirst{first}, first % 4 == 0 && Aligned<W>(in, out));
  });
}

void FillNormal(const CudaContext& cuda, const Tensor& x, const Shape& global, const Shape& offset, uint64_t key,
                float deviation) {
  const int64_t n = x.elements();
  if (n == 0) return;
  Box box = {.rank = global.rank(), .extent = {}, .offset = {}, .global = {}};
  for (int dim = 0; dim < box.rank; ++dim) {
    box.extent[dim] = x.dim(dim);
    box.offset[dim] = offset[dim];
    box.global[dim] = global[dim];
  }
  Launch(cuda, FillNormalKernel, GridSize(Blocks(n, kThreads)), kThreads, 0, x.data<float>(), n, box, key, deviation);
}

}  // namespace trefoil::cuda
