// What the CUDA kernels share: elements in 16-byte accesses, sums over a block in a fixed order, element-wise maps,
// random numbers, workspace. For .cu files.
//
// A pack is W neighbouring elements, converted to float. Which thread adds which pack, and so the order of a sum, must
// come from shapes alone: W is chosen by the number of columns, and where a tensor happens not to start on 16 bytes the
// same packs are read element by element.
#pragma once

#include <cuda_runtime.h>
#include <glog/logging.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "runtime/kernels/cuda/cuda.h"
#include "runtime/kernels/cuda/launch.h"
#include "runtime/kernels/cuda/ptx.h"
#include "runtime/tensor.h"

namespace trefoil::cuda {

// The quick division is within 2 units in the last place, and 0 where the quotient would be below 2^-126.
__device__ inline float Sigmoid(float x) { return __fdividef(1.0f, 1.0f + expf(-x)); }

// ---- elements and packs ----

__device__ inline float ToFloat(float x) { return x; }
__device__ inline float ToFloat(BFloat16 x) { return __uint_as_float(uint32_t{x.bits} << 16); }

__device__ inline void StoreElement(float* to, float value) { *to = value; }
__device__ inline void StoreElement(BFloat16* to, float value) {
  to->bits = static_cast<uint16_t>(PairOfBFloat16(value, 0.0f));
}

template <int W>
struct Pack {
  float v[W];
};

// How a kernel reaches memory: in packs of kWidth (1, 4 or 8), each in accesses of up to 16 bytes if kWhole, else one
// element at a time.
template <int W, bool whole>
struct Access {
  static constexpr int kWidth = W;
  static constexpr bool kWhole = whole;
};
using OneByOne = Access<1, true>;

template <typename A>
__device__ inline Pack<A::kWidth> Load(const float* from) {
  constexpr int W = A::kWidth;
  Pack<W> pack;
  if constexpr (A::kWhole && W > 1) {
#pragma unroll
    for (int k = 0; k < W; k += 4) {
      const float4 four = *reinterpret_cast<const float4*>(from + k);
      pack.v[k] = four.x, pack.v[k + 1] = four.y, pack.v[k + 2] = four.z, pack.v[k + 3] = four.w;
    }
  } else {
#pragma unroll
    for (int k = 0; k < W; ++k) pack.v[k] = from[k];
  }
  return pack;
}

template <typename A>
__device__ inline Pack<A::kWidth> Load(const BFloat16* from) {
  constexpr int W = A::kWidth;
  Pack<W> pack;
  if constexpr (A::kWhole && W > 1) {
    uint32_t words[W / 2];
    if constexpr (W == 8) {
      const uint4 all = *reinterpret_cast<const uint4*>(from);
      words[0] = all.x, words[1] = all.y, words[2] = all.z, words[3] = all.w;
    } else {
      const uint2 all = *reinterpret_cast<const uint2*>(from);
      words[0] = all.x, words[1] = all.y;
    }
#pragma unroll
    for (int k = 0; k < W / 2; ++k) {
      pack.v[2 * k] = __uint_as_float(words[k] << 16);
      pack.v[2 * k + 1] = __uint_as_float(words[k] & 0xffff0000u);
    }
  } else {
#pragma unroll
    for (int k = 0; k < W; ++k) pack.v[k] = ToFloat(from[k]);
  }
  return pack;
}

template <typename A>
__device__ inline void Store(float* to, const Pack<A::kWidth>& pack) {
  constexpr int W = A::kWidth;
  if constexpr (A::kWhole && W > 1) {
#pragma unroll
    for (int k = 0; k < W; k += 4) {
      *reinterpret_cast<float4*>(to + k) = make_float4(pack.v[k], pack.v[k + 1], pack.v[k + 2], pack.v[k + 3]);
    }
  } else {
#pragma unroll
    for (int k = 0; k < W; ++k) to[k] = pack.v[k];
  }
}

template <typename A>
__device__ inline void Store(BFloat16* to, const Pack<A::kWidth>& pack) {
  constexpr int W = A::kWidth;
  if constexpr (A::kWhole && W > 1) {
    uint32_t words[W / 2];
#pragma unroll
    for (int k = 0; k < W / 2; ++k) words[k] = PairOfBFloat16(pack.v[2 * k], pack.v[2 * k + 1]);
    if constexpr (W == 8) {
      *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
    } else {
      *reinterpret_cast<uint2*>(to) = make_uint2(words[0], words[1]);
    }
  } else {
#pragma unroll
    for (int k = 0; k < W; ++k) StoreElement(to + k, pack.v[k]);
  }
}

// ---- sums over threads ----

// The same bits in every lane: pairs are added, and a + b is b + a.
template <typename T>
__device__ inline T WarpSum(T x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}
// Leaves out NaNs.
__device__ inline float WarpMax(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, distance));
  return x;
}

// combine(...) over the threads of one threadIdx.y, given each warp's own: warps in order, the same bits in every
// thread. blockDim.x is a multiple of 32. All threads of the block call it together.
template <typename T, typename Combine>
__device__ inline T OverWarps(T x, const Combine& combine) {
  if (blockDim.x == 32) return x;
  __shared__ T of_warp[32];
  const int mine = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32, first = static_cast<int>(threadIdx.y) * warps;
  __syncthreads();  // the last call's values have been read
  if (threadIdx.x % 32 == 0) of_warp[mine] = x;
  __syncthreads();
  T all = of_warp[first];
  for (int warp = 1; warp < warps; ++warp) all = combine(all, of_warp[first + warp]);
  return all;
}
template <typename T>
__device__ inline T GroupSum(T x) {
  return OverWarps(WarpSum(x), [](T a, T b) { return a + b; });
}
__device__ inline float GroupMax(float x) {
  return OverWarps(WarpMax(x), [](float a, float b) { return fmaxf(a, b); });
}

// ---- random numbers ----

// Philox of runtime/random.h: the four words of block `counter`.
__host__ __device__ inline uint4 PhiloxWords(uint64_t key, uint64_t counter) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  uint4 x = {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0};
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * x.x;
    const uint64_t p1 = uint64_t{0xCD9E8D57} * x.z;
    x = {static_cast<uint32_t>(p1 >> 32) ^ x.y ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ x.w ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return x;
}
__host__ __device__ inline float UniformOf(uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-24f; }
__host__ __device__ inline uint32_t LaneOf(const uint4& words, uint32_t lane) {
  return lane < 2 ? (lane == 0 ? words.x : words.y) : (lane == 2 ? words.z : words.w);
}

// ---- on the host: types, grids, workspace ----

// Calls f(T{}) with the activation type of `dtype`.
template <typename F>
inline void WithType(DType dtype, const F& f) {
  if (dtype == DType::kFloat32) {
    f(float{});
  } else {
    f(BFloat16{});
  }
}

// Elements of T in 16 bytes.
template <typename T>
inline constexpr int kFullWidth = 16 / static_cast<int>(sizeof(T));

// Whether packs of W elements from each start may be reached in accesses of up to 16 bytes. Null is no obstacle.
template <int W, typename... T>
inline bool Aligned(const T*... start) {
  return ((reinterpret_cast<uintptr_t>(start) % std::min<size_t>(16, W * sizeof(T)) == 0) && ...);
}

// Calls f(Access{}) for rows of `columns` elements that follow each other without gaps; aligned: of every operand.
template <int W, typename F>
inline void WithAccess(int64_t columns, bool aligned, const F& f) {
  if (columns % W != 0) {
    f(OneByOne{});
  } else if (aligned) {
    f(Access<W, true>{});
  } else {
    f(Access<W, false>{});
  }
}

inline int64_t Blocks(int64_t n, int64_t block) { return (n + block - 1) / block; }

inline unsigned GridSize(int64_t blocks) {
  CHECK_LE(blocks, std::numeric_limits<int32_t>::max());
  return static_cast<unsigned>(blocks);
}

// Kernels count within a row in 32 bits, with room to step over its end.
inline int RowIndex(int64_t columns) {
  CHECK_LE(columns, 1 << 30);
  return static_cast<int>(columns);
}

// Threads for one row: whole warps, of about four packs a thread, so that several loads are under way at once.
inline constexpr int kMaxRowThreads = 512;
inline int RowThreads(int64_t columns, int width) {
  return static_cast<int>(std::clamp<int64_t>(Blocks(Blocks(columns, width), 4 * 32) * 32, 32, kMaxRowThreads));
}

// `count` values of scratch for as long as it lives.
template <typename T>
class Workspace {
 public:
  Workspace(const CudaContext& cuda, int64_t count)
      : block_(cuda.arena->Allocate(count * static_cast<int64_t>(sizeof(T)), Purpose::kWorkspace)) {}
  T* data() const { return static_cast<T*>(block_.data); }

 private:
  const Arena::Block block_;
};

// ---- element by element ----

struct Plus {
  __device__ float operator()(float a, float b) const { return a + b; }
};

template <int W, typename F, typename... In>
__device__ inline Pack<W> Apply(const F& f, const In&... in) {
  Pack<W> out;
#pragma unroll
  for (int k = 0; k < W; ++k) out.v[k] = f(in.v[k]...);
  return out;
}

template <typename A, typename F, typename Out, typename... In>
__global__ void MapKernel(int64_t n, F f, Out* out, const In*... in) {
  constexpr int W = A::kWidth;
  const int64_t i = (blockIdx.x * int64_t{blockDim.x} + threadIdx.x) * W;
  if (i + W <= n) {
    Store<A>(out + i, Apply<W>(f, Load<A>(in + i)...));
  } else {
    for (int64_t j = i; j < n; ++j) Store<OneByOne>(out + j, Apply<1>(f, Load<OneByOne>(in + j)...));
  }
}

// out[i] = f(in[i]...) for i in [0, n); f is a struct whose operator() runs on the device. out may be one of `in`.
template <typename F, typename Out, typename... In>
inline void Map(const CudaContext& cuda, int64_t n, const F& f, Out* out, const In*... in) {
  if (n == 0) return;
  constexpr int kThreads = 256;
  constexpr int W = 16 / static_cast<int>(std::min({sizeof(Out), sizeof(In)...}));
  if (Aligned<W>(out, in...)) {
    Launch(cuda, MapKernel<Access<W, true>, F, Out, In...>, GridSize(Blocks(n, kThreads * W)), kThreads, 0, n, f, out,
           in...);
  } else {
    Launch(cuda, MapKernel<OneByOne, F, Out, In...>, GridSize(Blocks(n, kThreads)), kThreads, 0, n, f, out, in...);
  }
}

// ---- partial sums ----

// Thread (x, y): parts y, y + kLanes ... of one column; then the kLanes sums in order.
template <int kLanes>
__global__ void AddPartialsKernel(const float* partial, int64_t parts, int64_t stride, int64_t columns, float* out) {
  __shared__ float sums[kLanes][32];
  const int64_t j = blockIdx.x * int64_t{32} + threadIdx.x;
  float sum = 0;
  if (j < columns) {
    for (int64_t part = threadIdx.y; part < parts; part += kLanes) sum += partial[part * stride + j];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || j >= columns) return;
  for (int lane = 1; lane < kLanes; ++lane) sum += sums[lane][threadIdx.x];
  out[j] += sum;
}

// out[j] += the sum over `parts` of partial[part * stride + j].
template <int kLanes = 32>
inline void AddPartials(const CudaContext& cuda, const float* partial, int64_t parts, int64_t stride, int64_t columns,
                        float* out) {
  Launch(cuda, AddPartialsKernel<kLanes>, GridSize(Blocks(columns, 32)), dim3(32, kLanes), 0, partial, parts, stride,
         columns, out);
}

// Blocks that rows are summed in, at most: two for each multiprocessor of an H100, and the same on every GPU, because
// the order of a sum depends on shapes only.
inline constexpr int64_t kSumParts = 264;

}  // namespace trefoil::cuda
