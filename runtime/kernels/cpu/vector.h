// What the CPU's kernels share: conversion, exp, the split of work over threads, scratch memory.
//
// Loops are plain C++ that the compiler turns into vector code. Sums are kept in a fixed number of lanes, so their
// order does not depend on the width of the CPU's vectors.
#pragma once

#include <omp.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "runtime/kernels/cpu/cpu.h"
#include "runtime/tensor.h"

namespace trefoil::cpu {

// to = value, rounded to its type. (Assigning a whole BFloat16 keeps GCC 12 from using vectors.)
inline void Store(float& to, float value) { to = value; }
inline void Store(BFloat16& to, float value) { to.bits = BFloat16(value).bits; }

// e^x within 2 units in the last place, with gradual underflow, 0 at -infinity, infinity on overflow, NaN kept.
// Cody-Waite reduction x = n ln 2 + r and the polynomial of Cephes' expf.
inline float Exp(float x) {
  x = x < -104.0f ? -104.0f : x;
  x = x > 89.0f ? 89.0f : x;
  constexpr float kRound = 0x1.8p23f;  // adding it leaves the nearest integer in the low mantissa bits
  const float shifted = x * 1.44269504088896341f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float e = (p * (r * r) + r) + 1.0f;
  // 2^n in two factors, because n = 128 and n < -126 are no exponents of a float.
  const int32_t bits = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRound);
  const int32_t half = bits >> 1;
  return e * std::bit_cast<float>((half + 127) << 23) * std::bit_cast<float>((bits - half + 127) << 23);
}

inline float Sigmoid(float x) { return 1.0f / (1.0f + Exp(-x)); }

// Within some units in the last place; around 0 by the polynomial of Cephes' tanhf, as the quotient would cancel.
inline float Tanh(float x) {
  const float square = x * x;
  float p = -5.70498872745e-3f;
  p = p * square + 2.06390887954e-2f;
  p = p * square - 5.37397155531e-2f;
  p = p * square + 1.33314422036e-1f;
  p = p * square - 3.33332819422e-1f;
  const float size = std::fabs(x), near = p * square * x + x, far = 1.0f - 2.0f / (1.0f + Exp(2.0f * size));
  return size < 0.625f ? near : std::copysign(far, x);
}

inline constexpr int kLanes = 32;

// The sum of f(i) for i in [0, n): lane i % kLanes adds in order, then the lanes are added in pairs.
template <typename Sum, typename F>
inline Sum SumLanes(int64_t n, const F& f) {
  Sum lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += f(i + lane);
  }
  for (int lane = 0; i + lane < n; ++lane) lanes[lane] += f(i + lane);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

// The largest of `start` and x[0 .. n), leaving out NaNs.
inline float Maximum(const float* x, int64_t n, float start = -std::numeric_limits<float>::infinity()) {
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, start);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
  }
  for (int lane = 0; i + lane < n; ++lane) lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
  return *std::max_element(lanes, lanes + kLanes);
}

// Calls f(T{}) with the activation type of `dtype`.
template <typename F>
inline void WithType(DType dtype, const F& f) {
  if (dtype == DType::kFloat32) {
    f(float{});
  } else {
    f(BFloat16{});
  }
}

inline int64_t Blocks(int64_t n, int64_t block) { return (n + block - 1) / block; }

// Calls f(i) for every i in [0, tasks), split over at most `threads` threads in contiguous runs.
template <typename F>
inline void ParallelFor(int threads, int64_t tasks, const F& f) {
  if (threads <= 1 || tasks <= 1) {
    for (int64_t i = 0; i < tasks; ++i) f(i);
    return;
  }
#pragma omp parallel for num_threads(static_cast <int>(std::min <int64_t>(threads, tasks))) schedule(static)
  for (int64_t i = 0; i < tasks; ++i) f(i);
}

// Calls f(arguments...), compiled for AVX-512 together with all that it calls.
template <typename F, typename... Arguments>
[[gnu::target("arch=x86-64-v4"), gnu::flatten]] void CallWide(const F& f, Arguments... arguments) {
  f(arguments...);
}

// Calls f(begin, end) for the blocks of `block` (the last may be smaller) of [0, n). Blocks depend on n alone. A dry
// context calls nothing.
template <typename F>
inline void ParallelBlocks(const CpuContext& cpu, int64_t n, int64_t block, const F& f) {
  if (cpu.dry) return;
  ParallelFor(cpu.threads, Blocks(n, block), [&, avx512 = cpu.avx512](int64_t i) {
    if (avx512) return CallWide(f, i * block, std::min(n, (i + 1) * block));
    f(i * block, std::min(n, (i + 1) * block));
  });
}

// Elements that one task should have at least, so that starting it costs little.
constexpr int64_t kGrain = 16384;
// Rows of `columns` elements in a task of about kGrain.
inline int64_t RowGrain(int64_t columns) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(columns, 1)); }

// `count` floats of scratch for as long as it lives.
class Workspace {
 public:
  Workspace(const CpuContext& cpu, int64_t count)
      : block_(cpu.arena->Allocate(count * static_cast<int64_t>(sizeof(float)), Purpose::kWorkspace)) {}
  float* data() const { return static_cast<float*>(block_.data); }

 private:
  const Arena::Block block_;
};

// Blocks of rows whose partial sums are added in order of block: a number that depends on the rows alone.
inline int64_t SumBlockRows(int64_t rows) { return std::max<int64_t>(16, Blocks(rows, 32)); }

// out[j] += the sum over `parts` of partial[part][j], in order of part.
inline void AddPartials(const CpuContext& cpu, const float* partial, int64_t parts, int64_t stride, int64_t columns,
                        float* out) {
  ParallelBlocks(cpu, columns, 1024, [=](int64_t begin, int64_t end) {
    for (int64_t part = 0; part < parts; ++part) {
      const float* row = partial + part * stride;
      for (int64_t j = begin; j < end; ++j) out[j] += row[j];
    }
  });
}

}  // namespace trefoil::cpu
