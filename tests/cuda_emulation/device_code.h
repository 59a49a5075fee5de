// What the CUDA language has and C++ has not, for .cu files compiled by the C++ compiler: included before each of them.
// Built-in functions are those that our kernels use; a kernel that needs another adds it here, as the CUDA Programming
// Guide defines it.
#pragma once

#include <cuda_runtime.h>

#include <bit>
#include <cmath>
#include <cstdint>

#include "tests/cuda_emulation/block.h"

#undef __host__
#undef __device__
#undef __global__
#undef __shared__
#undef __launch_bounds__
#define __host__
#define __device__
#define __global__
// One block at a time runs on a thread.
#define __shared__ static thread_local
#define __launch_bounds__(...)

#define threadIdx (::trefoil::emulation::Current().thread)
#define blockIdx (::trefoil::emulation::Current().block)
#define blockDim (::trefoil::emulation::Current().block_dim)
#define gridDim (::trefoil::emulation::Current().grid_dim)

inline void __syncthreads() { ::trefoil::emulation::SyncThreads(); }

namespace trefoil::emulation {

struct WarpBarrier {
  struct In {};
  struct Out {};
  static void Run(const bool*, const In*, Out*) {}
};

// Every lane reads what lane source(lane) gave. A lane that has left has no value.
template <typename T>
struct ShuffleIn {
  T value;
  int source;
};
template <typename T>
struct Shuffle {
  using In = ShuffleIn<T>;
  using Out = T;
  static void Run(const bool* present, const In* in, Out* out) {
    for (int lane = 0; lane < 32; ++lane) {
      if (!present[lane]) continue;
      const int source = in[lane].source & 31;
      if (!present[source]) {
        __builtin_trap();  // undefined on a GPU
      }
      out[lane] = in[source].value;
    }
  }
};
inline int LaneInWarp() {
  const ThreadState& me = Current();
  return static_cast<int>((me.thread.z * me.block_dim.y + me.thread.y) * me.block_dim.x + me.thread.x) & 31;
}

}  // namespace trefoil::emulation

inline void __syncwarp(unsigned = 0xffffffffu) {
  (void)::trefoil::emulation::InWarp<::trefoil::emulation::WarpBarrier>({});
}
template <typename T>
T __shfl_sync(unsigned, T value, int source) {
  return ::trefoil::emulation::InWarp<::trefoil::emulation::Shuffle<T>>({value, source});
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return ::trefoil::emulation::InWarp<::trefoil::emulation::Shuffle<T>>(
      {value, ::trefoil::emulation::LaneInWarp() ^ mask});
}

template <typename T>
T atomicAdd(T* to, T value) {
  return __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
}
template <typename T>
T atomicMax(T* to, T value) {
  T before = __atomic_load_n(to, __ATOMIC_RELAXED);
  while (before < value && !__atomic_compare_exchange_n(to, &before, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return before;
}

template <typename T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
T max(T a, T b) {
  return a < b ? b : a;
}
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
inline float __expf(float x) { return expf(x); }
// 0 for divisors above 2^126, as on a GPU.
inline float __fdividef(float a, float b) {
  const float size = std::fabs(b);
  return size > 0x1p126f && size <= 0x1.fffffep127f ? 0.0f * a : a / b;
}
