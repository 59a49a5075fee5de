// Products of small matrices by one warp: the accumulator in registers, the operands in shared memory.
//
// bf16 goes through the tensor cores; fp32 is multiplied and added one by one, in the same spread over the lanes, so
// that the code around a product does not depend on the type. Sums are fp32 and run over the inner dim in order (in the
// order of the tensor cores inside each 16).
//
// A tile is a matrix in shared memory with rows of Pitch<T, D> elements: 16-byte aligned, and a padding of 16 bytes
// that spreads the rows over the banks.
#pragma once

#include <cstdint>

#include "runtime/kernels/cuda/ptx.h"
#include "runtime/kernels/cuda/vector.h"

namespace trefoil::cuda {

template <typename T, int D>
inline constexpr int kPitch = D + 16 / static_cast<int>(sizeof(T));

__device__ inline int Lane() { return static_cast<int>(threadIdx.x) % 32; }

// A matrix of 16 rows spread over a warp as MultiplyAdd's sums are: value[j][i] is the element (Row(i), Column(j, i)).
template <int kColumns>
struct Fragment {
  static constexpr int kTiles = kColumns / 8;
  float value[kTiles][4] = {};

  static __device__ int Row(int i) { return Lane() / 4 + i / 2 * 8; }
  static __device__ int Column(int tile, int i) { return tile * 8 + Lane() % 4 * 2 + i % 2; }
};

// The values of a row lie in the four lanes of a quad: their sum, or maximum, in all four.
__device__ inline float QuadSum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
__device__ inline float QuadMaximum(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

// sum[16, kColumns] += a b^T.  a: tile of 16 rows, b: tile of kColumns rows, both of D columns.
template <int D, int kColumns>
__device__ inline void AddProductTransposed(Fragment<kColumns>& sum, const BFloat16* a, const BFloat16* b) {
  constexpr int kRow = kPitch<BFloat16, D>;
  const int lane = Lane();
  a += lane % 16 * kRow + lane / 16 * 8;
  b += (lane / 16 * 8 + lane % 8) * kRow + lane / 8 % 2 * 8;
#pragma unroll
  for (int d = 0; d < D; d += 16) {
    uint32_t left[4];
    LoadMatrices<false>(left, a + d);
#pragma unroll
    for (int tile = 0; tile < sum.kTiles; tile += 2) {
      uint32_t right[4];
      LoadMatrices<false>(right, b + tile * 8 * kRow + d);
      MultiplyAdd(sum.value[tile], left, right[0], right[1]);
      MultiplyAdd(sum.value[tile + 1], left, right[2], right[3]);
    }
  }
}

template <int D, int kColumns>
__device__ inline void AddProductTransposed(Fragment<kColumns>& sum, const float* a, const float* b) {
  constexpr int kRow = kPitch<float, D>;
  a += sum.Row(0) * kRow;
  b += sum.Column(0, 0) * kRow;
#pragma unroll 2
  for (int d = 0; d < D; d += 4) {
    const float4 left[2] = {*reinterpret_cast<const float4*>(a + d),
                            *reinterpret_cast<const float4*>(a + 8 * kRow + d)};
#pragma unroll
    for (int tile = 0; tile < sum.kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float4 right = *reinterpret_cast<const float4*>(b + (tile * 8 + i % 2) * kRow + d);
        float& to = sum.value[tile][i];
        to = fmaf(left[i / 2].x, right.x, to);
        to = fmaf(left[i / 2].y, right.y, to);
        to = fmaf(left[i / 2].z, right.z, to);
        to = fmaf(left[i / 2].w, right.w, to);
      }
    }
  }
}

// sum[16, D] += a b.  b: tile of kInner rows and D columns. With bf16, a is rounded to it.
template <int D, int kInner>
__device__ inline void AddProduct(Fragment<D>& sum, const Fragment<kInner>& a, const BFloat16* b) {
  constexpr int kRow = kPitch<BFloat16, D>;
  const int lane = Lane();
  b += lane % 16 * kRow + lane / 16 * 8;
#pragma unroll
  for (int inner = 0; inner < kInner; inner += 16) {
    const auto& first = a.value[inner / 8];
    const auto& second = a.value[inner / 8 + 1];
    const uint32_t left[4] = {PairOfBFloat16(first[0], first[1]), PairOfBFloat16(first[2], first[3]),
                              PairOfBFloat16(second[0], second[1]), PairOfBFloat16(second[2], second[3])};
#pragma unroll
    for (int tile = 0; tile < sum.kTiles; tile += 2) {
      uint32_t right[4];
      LoadMatrices<true>(right, b + inner * kRow + tile * 8);
      MultiplyAdd(sum.value[tile], left, right[0], right[1]);
      MultiplyAdd(sum.value[tile + 1], left, right[2], right[3]);
    }
  }
}

template <int D, int kInner>
__device__ inline void AddProduct(Fragment<D>& sum, const Fragment<kInner>& a, const float* b) {
  constexpr int kRow = kPitch<float, D>;
  b += sum.Column(0, 0);
#pragma unroll
  for (int inner = 0; inner < kInner; ++inner) {
    const int owner = Lane() / 4 * 4 + inner % 8 / 2;
    const float top = __shfl_sync(0xffffffffu, a.value[inner / 8][inner % 2], owner);
    const float bottom = __shfl_sync(0xffffffffu, a.value[inner / 8][2 + inner % 2], owner);
#pragma unroll
    for (int tile = 0; tile < sum.kTiles; ++tile) {
      const float2 right = *reinterpret_cast<const float2*>(b + inner * kRow + tile * 8);
      sum.value[tile][0] = fmaf(top, right.x, sum.value[tile][0]);
      sum.value[tile][1] = fmaf(top, right.y, sum.value[tile][1]);
      sum.value[tile][2] = fmaf(bottom, right.x, sum.value[tile][2]);
      sum.value[tile][3] = fmaf(bottom, right.y, sum.value[tile][3]);
    }
  }
}

// Writes 16 rows of a tile, rounded to its type.
template <int D, typename T>
__device__ inline void StoreTile(const Fragment<D>& from, T* tile) {
#pragma unroll
  for (int j = 0; j < from.kTiles; ++j) {
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      T* to = tile + from.Row(i) * kPitch<T, D> + from.Column(j, i);
      if constexpr (sizeof(T) == 2) {
        *reinterpret_cast<uint32_t*>(to) = PairOfBFloat16(from.value[j][i], from.value[j][i + 1]);
      } else {
        *reinterpret_cast<float2*>(to) = make_float2(from.value[j][i], from.value[j][i + 1]);
      }
    }
  }
}

}  // namespace trefoil::cuda
