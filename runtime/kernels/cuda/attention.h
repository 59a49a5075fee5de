// What the forward and the backward of attention on the GPU share: how heads lie in memory, how they are cut into
// tiles, dropout, and the choice of a kernel.
//
// A thread block has kWarps warps. It owns kRows rows of a head, queries or keys, 16 to a warp, and streams the rows of
// the other kind through shared memory in steps of kStep, two steps at a time: one being computed with, one on its way.
// D is the head dim padded to a multiple of 32; padding columns are zeros.
#pragma once

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "runtime/kernels/cuda/cuda.h"
#include "runtime/kernels/cuda/fragment.h"
#include "runtime/kernels/cuda/vector.h"

namespace trefoil::cuda {

inline constexpr int kMaxHeadDim = 128;
inline constexpr int kWarps = 4, kThreads = 32 * kWarps, kRows = 16 * kWarps;
// Fewer for wide heads, and for fp32, whose products keep operands in registers: all that a warp keeps must fit.
template <typename T, int D>
inline constexpr int kStep = (D <= 64 ? 64 : 32) / (sizeof(T) == 4 ? 2 : 1);

// Host-made arguments of every kernel.
struct AttentionGeometry {
  int sequences, tokens, heads, kv_heads, head_dim;
  int64_t columns;          // of qkv
  float scale;              // of q k^T
  bool wide;                // rows of heads start and end at multiples of 16 bytes
  float probability, kept;  // of dropout; kept: the factor of what is not dropped
  uint64_t key;
  int64_t first_sequence, first_head, global_heads;

  // Offset of the first row of a head; the stride between rows is `columns`.
  __device__ int64_t Query(int sequence, int head) const {
    return static_cast<int64_t>(sequence) * tokens * columns + static_cast<int64_t>(head) * head_dim;
  }
  __device__ int64_t Key(int sequence, int kv_head) const { return Query(sequence, heads + kv_head); }
  __device__ int64_t Value(int sequence, int kv_head) const { return Query(sequence, heads + kv_heads + kv_head); }
  // The same in `out`.
  __device__ int64_t OutStride() const { return static_cast<int64_t>(heads) * head_dim; }
  __device__ int64_t Out(int sequence, int head) const {
    return static_cast<int64_t>(sequence) * tokens * OutStride() + static_cast<int64_t>(head) * head_dim;
  }
  // Of the statistics [B, H, T].
  __device__ int64_t Statistic(int sequence, int head) const {
    return (static_cast<int64_t>(sequence) * heads + head) * tokens;
  }
};

template <typename... Tensors>
AttentionGeometry GeometryOf(const AttentionShape& s, const AttentionDropout& dropout, const Tensors&... tensors) {
  const auto aligned = [](const Tensor& x) { return reinterpret_cast<uintptr_t>(x.raw()) % 16 == 0; };
  const int64_t row_bytes = s.head_dim * static_cast<int64_t>(SizeOf((tensors.dtype(), ...)));
  return {.sequences = static_cast<int>(s.batch),
          .tokens = static_cast<int>(s.tokens),
          .heads = static_cast<int>(s.heads),
          .kv_heads = static_cast<int>(s.kv_heads),
          .head_dim = static_cast<int>(s.head_dim),
          .columns = s.columns(),
          .scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim)),
          .wide = row_bytes % 16 == 0 && (aligned(tensors) && ...),
          .probability = dropout.mask.probability,
          .kept = 1.0f / (1.0f - dropout.mask.probability),
          .key = dropout.mask.key,
          .first_sequence = dropout.mask.first_row / s.tokens,
          .first_head = dropout.first_head,
          .global_heads = dropout.global_heads};
}

// The dropout factors of one head's weights.
class HeadDropout {
 public:
  __device__ HeadDropout(const AttentionGeometry& g, int sequence, int head)
      : geometry_(g),
        first_(((g.first_sequence + sequence) * g.global_heads + g.first_head + head) * g.tokens * g.tokens) {}

  // Of (query, key).
  __device__ float Factor(int query, int key) const {
    const uint64_t element = Element(query, key);
    return FactorOf(LaneOf(PhiloxWords(geometry_.key, element / 4), element % 4));
  }
  // Of (query, key) and (query, key + 1), most often in one block of random numbers.
  __device__ float2 Factors(int query, int key) const {
    const uint64_t element = Element(query, key);
    const uint4 words = PhiloxWords(geometry_.key, element / 4);
    const auto lane = static_cast<uint32_t>(element % 4);
    const uint32_t next = lane < 3 ? LaneOf(words, lane + 1) : PhiloxWords(geometry_.key, element / 4 + 1).x;
    return {FactorOf(LaneOf(words, lane)), FactorOf(next)};
  }

 private:
  __device__ uint64_t Element(int query, int key) const {
    return static_cast<uint64_t>(first_ + static_cast<int64_t>(query) * geometry_.tokens + key);
  }
  __device__ float FactorOf(uint32_t bits) const {
    return UniformOf(bits) < geometry_.probability ? 0.0f : geometry_.kept;
  }

  const AttentionGeometry& geometry_;
  const int64_t first_;
};

// e^x: for fp32 as exact as the library's, for bf16 by the hardware (relative error below 2^-20 where it matters).
template <typename T>
__device__ inline float Exp(float x) {
  if constexpr (sizeof(T) == 4) return expf(x);
  return __expf(x);
}

// Elements of a tile of `rows` rows.
template <typename T, int D>
constexpr int TileSize(int rows) {
  return rows * kPitch<T, D>;
}

// Starts (wide) or does the copy of `rows` rows of a head into a tile, by all threads; rows from `inside` on, and
// columns from the head dim on, become zeros. inside: at least 1.
template <int D, typename T>
__device__ inline void LoadTile(const AttentionGeometry& g, const T* from, int64_t stride, int rows, int inside,
                                T* tile) {
  const int thread = static_cast<int>(threadIdx.x);
  if (g.wide) {
    constexpr int kVector = 16 / sizeof(T), kVectors = D / kVector;
#pragma unroll 2
    for (int i = thread; i < rows * kVectors; i += kThreads) {
      const int row = i / kVectors, column = i % kVectors * kVector;
      const bool real = row < inside && column < g.head_dim;
      CopyAsync<16>(tile + row * kPitch<T, D> + column, real ? from + row * stride + column : from, real);
    }
  } else {
#pragma unroll 1
    for (int i = thread; i < rows * D; i += kThreads) {
      const int row = i / D, column = i % D;
      const bool real = row < inside && column < g.head_dim;
      tile[row * kPitch<T, D> + column] = real ? from[row * stride + column] : T{};
    }
  }
}

// Writes a warp's 16 rows, of which `inside` (which may be none, or more than 16) are real, to a head. `tile`: 16 rows
// that no other warp uses and this one no longer needs; they are overwritten.
template <int D, typename T>
__device__ inline void StoreRows(const AttentionGeometry& g, const Fragment<D>& from, T* tile, T* to, int64_t stride,
                                 int inside) {
  __syncwarp();
  StoreTile(from, tile);
  __syncwarp();
  constexpr int kVector = 16 / sizeof(T), kVectors = D / kVector;
  const int rows = min(inside, 16);
  if (g.wide) {
#pragma unroll 1
    for (int i = Lane(); i < rows * kVectors; i += 32) {
      const int row = i / kVectors, column = i % kVectors * kVector;
      if (column >= g.head_dim) continue;
      *reinterpret_cast<uint4*>(to + row * stride + column) =
          *reinterpret_cast<const uint4*>(tile + row * kPitch<T, D> + column);
    }
  } else {
#pragma unroll 1
    for (int i = Lane(); i < rows * D; i += 32) {
      const int row = i / D, column = i % D;
      if (column < g.head_dim) to[row * stride + column] = tile[row * kPitch<T, D> + column];
    }
  }
}

template <int D>
__device__ inline void Scale(Fragment<D>& x, float top, float bottom) {
#pragma unroll
  for (auto& tile : x.value) {
#pragma unroll
    for (int i = 0; i < 4; ++i) tile[i] *= i < 2 ? top : bottom;
  }
}

template <int D>
struct PaddedDim {
  static constexpr int value = D;
};

// Calls f(T{}, PaddedDim<D>{}) with the element type and the padded head dim.
template <typename F>
void WithTypeAndDim(DType dtype, int64_t head_dim, const F& f) {
  WithType(dtype, [&](auto type) {
    if (head_dim <= 32) return f(type, PaddedDim<32>{});
    if (head_dim <= 64) return f(type, PaddedDim<64>{});
    if (head_dim <= 96) return f(type, PaddedDim<96>{});
    if (head_dim <= kMaxHeadDim) return f(type, PaddedDim<kMaxHeadDim>{});
    LOG(FATAL) << "attention on a GPU has kernels for head dims up to " << kMaxHeadDim << ", not for " << head_dim;
  });
}

}  // namespace trefoil::cuda
