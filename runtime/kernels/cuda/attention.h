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
#include <initializer_list>
#include <type_traits>

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
  int sequences, tokens, key_tokens, heads, kv_heads, head_dim;
  TokenRanges queries, keys;
  bool causal;
  int64_t window;          // 0: queries see keys however far before them
  const int32_t* lengths;  // null: all keys exist
  const int32_t* starts;   // null: queries see keys from the first on
  float scale;              // of q k^T
  bool wide;                // rows of heads start and end at multiples of 16 bytes
  float probability, kept;  // of dropout; kept: the factor of what is not dropped
  uint64_t key;
  int64_t first_sequence, first_head, global_heads, global_queries, global_keys;

  // How many keys of a sequence there are, its first rows.
  __device__ int Existing(int sequence) const {
    return lengths == nullptr ? key_tokens : static_cast<int>(keys.Before(lengths[sequence]));
  }
  // What a query row sees of `existing` keys are the rows below Seen; a row beyond the queries sees what the last one
  // does. It never falls, so what sees a key are the rows of queries from FirstSeeing on: none for a key beyond those.
  __device__ int Seen(int query, int existing) const {
    if (!causal) return existing;
    return min(static_cast<int>(keys.Before(queries.Position(min(query, tokens - 1)) + 1)), existing);
  }
  __device__ int FirstSeeing(int key, int existing) const {
    if (key >= existing) return tokens;
    return causal ? static_cast<int>(queries.Before(keys.Position(key))) : 0;
  }
  // With window or starts, a query row sees none of the keys before FirstSeen, which never falls either; so what sees a
  // key are rows before EndSeeing, found by halving. Rows beyond the last are as above.
  __device__ int FirstSeen(int sequence, int query) const {
    if (starts == nullptr && window == 0) return 0;
    const int row = min(query, tokens - 1);
    int64_t first = window == 0 ? 0 : queries.Position(row) - window + 1;
    if (starts != nullptr) first = max(first, static_cast<int64_t>(starts[static_cast<int64_t>(sequence) * tokens + row]));
    return static_cast<int>(keys.Before(first));
  }
  __device__ int EndSeeing(int sequence, int key) const {
    if (key >= key_tokens) return tokens;
    int begin = 0, end = window == 0 ? tokens : static_cast<int>(queries.Before(keys.Position(key) + window));
    if (starts == nullptr) return end;
    const int32_t* const of_sequence = starts + static_cast<int64_t>(sequence) * tokens;
    const int64_t position = keys.Position(key);
    while (begin < end) {
      const int middle = (begin + end) / 2;
      if (of_sequence[middle] <= position) {
        begin = middle + 1;
      } else {
        end = middle;
      }
    }
    return begin;
  }
  // For the bias; of a row beyond the last, the last one's.
  __device__ int QueryPosition(int query) const { return static_cast<int>(queries.Position(min(query, tokens - 1))); }
  __device__ int KeyPosition(int key) const { return static_cast<int>(keys.Position(min(key, key_tokens - 1))); }
  // Offset of a head in `out`, and the stride between its rows.
  __device__ int64_t OutStride() const { return static_cast<int64_t>(heads) * head_dim; }
  __device__ int64_t Out(int sequence, int head) const {
    return static_cast<int64_t>(sequence) * tokens * OutStride() + static_cast<int64_t>(head) * head_dim;
  }
  // Of the statistics [B, H, Tq].
  __device__ int64_t Statistic(int sequence, int head) const {
    return (static_cast<int64_t>(sequence) * heads + head) * tokens;
  }
};

// Heads as columns of a matrix: HeadColumns on the GPU.
template <typename T>
struct HeadMatrix {
  explicit HeadMatrix(const HeadColumns& x)
      : data(x.rows.data<std::remove_const_t<T>>() + x.first), stride(x.rows.dim(1)) {}
  // The first row of a head.
  __device__ T* Head(int sequence, int tokens, int head, int head_dim) const {
    return data + static_cast<int64_t>(sequence) * tokens * stride + static_cast<int64_t>(head) * head_dim;
  }
  T* data;
  int64_t stride;
};
template <typename T>
struct HeadMatrices {
  explicit HeadMatrices(const AttentionHeads& x) : q(x.q), k(x.k), v(x.v) {}
  HeadMatrix<T> q, k, v;
};

// `heads` and `tensors`: all that the kernel reads and writes by LoadTile and StoreRows.
inline AttentionGeometry GeometryOf(const AttentionShape& s, const AttentionDropout& dropout,
                                    std::initializer_list<HeadColumns> heads) {
  bool wide = true;
  for (const HeadColumns& x : heads) {
    const auto size = static_cast<int64_t>(SizeOf(x.rows.dtype()));
    wide = wide && s.head_dim * size % 16 == 0 && x.rows.dim(1) * size % 16 == 0 && x.first * size % 16 == 0 &&
           reinterpret_cast<uintptr_t>(x.rows.raw()) % 16 == 0;
  }
  return {.sequences = static_cast<int>(s.batch),
          .tokens = static_cast<int>(s.tokens.tokens()),
          .key_tokens = static_cast<int>(s.keys().tokens()),
          .heads = static_cast<int>(s.heads),
          .kv_heads = static_cast<int>(s.kv_heads),
          .head_dim = static_cast<int>(s.head_dim),
          .queries = s.tokens,
          .keys = s.keys(),
          .causal = s.causal,
          .window = s.window,
          .lengths = s.lengths.defined() ? s.lengths.data<int32_t>() : nullptr,
          .starts = s.starts.defined() ? s.starts.data<int32_t>() : nullptr,
          .scale = s.score_scale(),
          .wide = wide,
          .probability = dropout.probability,
          .kept = 1.0f / (1.0f - dropout.probability),
          .key = dropout.key,
          .first_sequence = dropout.first_sequence,
          .first_head = dropout.first_head,
          .global_heads = dropout.global_heads,
          .global_queries = dropout.global_queries,
          .global_keys = dropout.global_keys};
}

// The dropout factors of one head's weights, by rows of queries and keys.
class HeadDropout {
 public:
  __device__ HeadDropout(const AttentionGeometry& g, int sequence, int head)
      : geometry_(g),
        first_(((g.first_sequence + sequence) * g.global_heads + g.first_head + head) * g.global_queries) {}

  // Of (query, key).
  __device__ float Factor(int query, int key) const {
    const uint64_t element = Element(query, key);
    return FactorOf(LaneOf(PhiloxWords(geometry_.key, element / 4), element % 4));
  }
  // Of (query, key) and (query, key + 1), most often in one block of random numbers.
  __device__ float2 Factors(int query, int key) const {
    const uint64_t element = Element(query, key), next = Element(query, key + 1);
    const uint4 words = PhiloxWords(geometry_.key, element / 4);
    const uint4 next_words = next / 4 == element / 4 ? words : PhiloxWords(geometry_.key, next / 4);
    return {FactorOf(LaneOf(words, element % 4)), FactorOf(LaneOf(next_words, next % 4))};
  }

 private:
  // Rows beyond the last have some element, which nobody uses.
  __device__ uint64_t Element(int query, int key) const {
    return static_cast<uint64_t>((first_ + geometry_.queries.Position(query)) * geometry_.global_keys +
                                 geometry_.keys.Position(key));
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

// The row of the bias for distance 0 (AttentionHeads::bias); null where there is no bias.
template <typename T>
const T* BiasAtZero(const Tensor& bias) {
  return bias.defined() ? bias.data<T>() + bias.dim(0) / 2 * bias.dim(1) : nullptr;
}

// The bias of a head's score, which is only there where the query sees the key; of_head: BiasAtZero + head. Kernels
// come with kBias and without, so that those without compute nothing for it.
template <bool kBias, typename T>
__device__ inline float BiasOf(const AttentionGeometry& g, const T* of_head, bool seen, int query, int key) {
  if constexpr (kBias) {
    if (seen) return ToFloat(of_head[(g.KeyPosition(key) - g.QueryPosition(query)) * g.heads]);
  }
  return 0;
}

// Turns a score and its d_weight into d_score = weight * (d_weight - delta); returns the dropped-out weight, for
// d_value. factor: of dropout.
template <typename T>
__device__ inline float Backward(const AttentionGeometry& g, bool seen, float log_sum_exp, float delta, float bias,
                                 float factor, float score, float& d_weight) {
  const float weight = seen ? Exp<T>(score * g.scale - (log_sum_exp - bias)) : 0.0f;
  d_weight = seen ? weight * (d_weight * factor - delta) : 0.0f;
  return weight * factor;
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

// The same for the tile of keys and of values that begins with key number tile * kStep. keys, values: two tiles each,
// which are filled by turns.
template <int D, typename T>
__device__ inline void LoadKeyTile(const AttentionGeometry& g, const HeadMatrices<const T>& in, int sequence,
                                   int kv_head, int tile, T* keys, T* values) {
  const int first = tile * kStep<T, D>, inside = g.key_tokens - first;
  const int at = tile % 2 * TileSize<T, D>(kStep<T, D>);
  const auto load = [&](const HeadMatrix<const T>& from, T* to) {
    LoadTile<D>(g, from.Head(sequence, g.key_tokens, kv_head, g.head_dim) + first * from.stride, from.stride,
                kStep<T, D>, inside, to + at);
  };
  load(in.k, keys);
  load(in.v, values);
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

// Writes, or adds, such rows to float32, straight from the fragment.
template <int D>
__device__ inline void StoreFloatRows(const AttentionGeometry& g, const Fragment<D>& from, float* to, int64_t stride,
                                      int inside, bool add) {
  __syncwarp();  // what the products before it need no longer lies in registers
#pragma unroll
  for (int half = 0; half < 4; half += 2) {
    if (from.Row(half) >= inside) continue;
    float* const row = to + from.Row(half) * stride;
#pragma unroll
    for (int j = 0; j < from.kTiles; ++j) {
#pragma unroll
      for (int i = half; i < half + 2; ++i) {
        const int column = from.Column(j, i);
        if (column < g.head_dim) row[column] = add ? row[column] + from.value[j][i] : from.value[j][i];
      }
    }
  }
}

// A gradient G's rows: those of the tile's own type through it.
template <int D, typename T, typename G>
__device__ inline void StoreGradient(const AttentionGeometry& g, const Fragment<D>& from, T* tile, G* to,
                                     int64_t stride, int inside, bool add) {
  if constexpr (sizeof(T) == sizeof(G)) {
    if (!add) return StoreRows(g, from, tile, to, stride, inside);
  }
  if constexpr (sizeof(G) == 4) StoreFloatRows(g, from, to, stride, inside, add);
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

// Calls f(std::bool_constant<kBias>{}).
template <typename F>
void WithBias(const Tensor& bias, const F& f) {
  if (bias.defined()) return f(std::true_type{});
  f(std::false_type{});
}

// attention_bias.cu: d_bias += the gradient of in.bias. delta: as the backward makes it, [B, H, Tq].
void AddBiasGradient(const CudaContext& cuda, const AttentionGeometry& geometry, const Tensor& d_out,
                     const AttentionHeads& in, const Tensor& log_sum_exp, const float* delta,
                     const AttentionShape& shape, const Tensor& d_bias);

}  // namespace trefoil::cuda
