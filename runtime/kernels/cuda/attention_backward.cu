#include "runtime/kernels/cuda/attention.h"

namespace trefoil::cuda {
namespace {

// delta[b, h, t] = the sum of d_out * out over a row's head (Dao et al. 2022, appendix B.4). As many lanes for each as
// packs of the widest head.
constexpr int kDeltaThreads = 256;
template <typename A>
constexpr int kDeltaLanes = std::min(32, kMaxHeadDim / A::kWidth);

template <typename A, typename T>
__global__ void DeltaKernel(const AttentionGeometry g, const T* __restrict__ d_out, const T* __restrict__ out,
                            float* __restrict__ delta) {
  constexpr int W = A::kWidth, kLanes = kDeltaLanes<A>;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  // (b * T + t) * H + h: as `out` lies
  const int64_t number = (blockIdx.x * int64_t{kDeltaThreads} + threadIdx.x) / kLanes;
  const int64_t row = number / g.heads;
  const bool real = row < int64_t{g.sequences} * g.tokens;
  float sum = 0;
  for (int d = lane * W; real && d < g.head_dim; d += kLanes * W) {
    const int64_t at = number * g.head_dim + d;
    const Pack<W> a = Load<A>(d_out + at), b = Load<A>(out + at);
#pragma unroll
    for (int k = 0; k < W; ++k) sum += a.v[k] * b.v[k];
  }
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  if (!real || lane != 0) return;
  const auto sequence = static_cast<int>(row / g.tokens), token = static_cast<int>(row % g.tokens);
  delta[g.Statistic(sequence, static_cast<int>(number % g.heads)) + token] = sum;
}

template <typename T>
struct Operands {
  const T *d_out, *qkv;
  const float *log_sum_exp, *delta;
  T* d_qkv;
};

// Turns a score and its d_weight into d_score = weight * (d_weight - delta); returns the dropped-out weight, for
// d_value. factor: of dropout.
template <typename T>
__device__ inline float Backward(const AttentionGeometry& g, bool seen, float log_sum_exp, float delta, float factor,
                                 float score, float& d_weight) {
  const float weight = seen ? Exp<T>(score * g.scale - log_sum_exp) : 0.0f;
  d_weight = seen ? weight * (d_weight * factor - delta) : 0.0f;
  return weight * factor;
}

template <typename T, int D>
constexpr size_t QueryBytes() {
  return sizeof(T) * (2 * TileSize<T, D>(kRows) + 4 * TileSize<T, D>(kStep<T, D>));
}

// d_query of one block of queries of one head, from key tiles in ascending order.
template <typename T, int D>
__global__ void __launch_bounds__(kThreads, 2) QueryBackwardKernel(const AttentionGeometry g, const Operands<T> x) {
  const int all_heads = g.sequences * g.heads, number = static_cast<int>(blockIdx.x);
  const int block = static_cast<int>(gridDim.x) / all_heads - 1 - number / all_heads;  // the longest first
  const int sequence = number % all_heads / g.heads, head = number % g.heads;
  const int kv_head = head / (g.heads / g.kv_heads);
  const int q0 = block * kRows, warp = static_cast<int>(threadIdx.x) / 32, warp_q0 = q0 + 16 * warp;

  T* const queries = SharedMemory<T>();              // [kRows, D]
  T* const d_out = queries + TileSize<T, D>(kRows);  // [kRows, D]
  T* const keys = d_out + TileSize<T, D>(kRows);     // two of [kStep, D]
  T* const values = keys + 2 * TileSize<T, D>(kStep<T, D>);
  T* const warp_queries = queries + TileSize<T, D>(16) * warp;
  const T* const warp_d_out = d_out + TileSize<T, D>(16) * warp;
  const T* const all_keys = x.qkv + g.Key(sequence, kv_head);
  const T* const all_values = x.qkv + g.Value(sequence, kv_head);
  const auto load = [&](int tile) {
    const int64_t first = static_cast<int64_t>(tile) * kStep<T, D>;
    const int at = tile % 2 * TileSize<T, D>(kStep<T, D>), inside = g.tokens - tile * kStep<T, D>;
    LoadTile<D>(g, all_keys + first * g.columns, g.columns, kStep<T, D>, inside, keys + at);
    LoadTile<D>(g, all_values + first * g.columns, g.columns, kStep<T, D>, inside, values + at);
  };
  const int64_t query_offset = g.Query(sequence, head), out_offset = g.Out(sequence, head);
  LoadTile<D>(g, x.qkv + query_offset + q0 * g.columns, g.columns, kRows, g.tokens - q0, queries);
  LoadTile<D>(g, x.d_out + out_offset + q0 * g.OutStride(), g.OutStride(), kRows, g.tokens - q0, d_out);
  load(0);
  CommitCopies();

  const HeadDropout dropout(g, sequence, head);
  Fragment<D> d_queries;
  float log_sum_exp[2] = {}, delta[2] = {};  // of rows Row(0) and Row(2); zero outside the sequence
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = warp_q0 + d_queries.Row(2 * half);
    if (query >= g.tokens) continue;
    log_sum_exp[half] = x.log_sum_exp[g.Statistic(sequence, head) + query];
    delta[half] = x.delta[g.Statistic(sequence, head) + query];
  }
  const int tiles = (min(q0 + kRows, g.tokens) + kStep<T, D> - 1) / kStep<T, D>;
  for (int tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) load(tile + 1);
    CommitCopies();
    WaitForCopies<1>();
    __syncthreads();
    const int k0 = tile * kStep<T, D>, at = tile % 2 * TileSize<T, D>(kStep<T, D>);
    if (k0 < warp_q0 + 16) {
      Fragment<kStep<T, D>> scores, d_scores;
      AddProductTransposed<D>(scores, warp_queries, keys + at);
      AddProductTransposed<D>(d_scores, warp_d_out, values + at);
#pragma unroll
      for (int j = 0; j < scores.kTiles; ++j) {
#pragma unroll
        for (int i = 0; i < 4; i += 2) {
          const int query = warp_q0 + scores.Row(i), key = k0 + scores.Column(j, i);
          float2 factors = {1, 1};
          if (g.probability > 0) factors = dropout.Factors(query, key);
          Backward<T>(g, key <= query, log_sum_exp[i / 2], delta[i / 2], factors.x, scores.value[j][i],
                      d_scores.value[j][i]);
          Backward<T>(g, key + 1 <= query, log_sum_exp[i / 2], delta[i / 2], factors.y, scores.value[j][i + 1],
                      d_scores.value[j][i + 1]);
        }
      }
      AddProduct<D>(d_queries, d_scores, keys + at);
    }
    __syncthreads();
  }
  Scale(d_queries, g.scale, g.scale);
  StoreRows(g, d_queries, warp_queries, x.d_qkv + query_offset + warp_q0 * g.columns, g.columns, g.tokens - warp_q0);
}

template <typename T, int D>
constexpr size_t KeyBytes() {
  return QueryBytes<T, D>() + 4 * sizeof(float) * kStep<T, D>;
}

// d_key and d_value of one block of keys of one key/value head: the query heads that attend with it in order, of each
// the tiles of queries in ascending order. Scores are computed transposed, keys down and queries across.
template <typename T, int D>
__global__ void __launch_bounds__(kThreads, 2) KeyBackwardKernel(const AttentionGeometry g, const Operands<T> x) {
  const int all_heads = g.sequences * g.kv_heads, number = static_cast<int>(blockIdx.x);
  const int block = number / all_heads;  // the first keys have the most queries
  const int sequence = number % all_heads / g.kv_heads, kv_head = number % g.kv_heads;
  const int k0 = block * kRows, warp = static_cast<int>(threadIdx.x) / 32, warp_k0 = k0 + 16 * warp;

  T* const keys = SharedMemory<T>();                  // [kRows, D]
  T* const values = keys + TileSize<T, D>(kRows);     // [kRows, D]
  T* const queries = values + TileSize<T, D>(kRows);  // two of [kStep, D]
  T* const d_out = queries + 2 * TileSize<T, D>(kStep<T, D>);
  auto* const statistics = reinterpret_cast<float*>(d_out + 2 * TileSize<T, D>(kStep<T, D>));  // two of [2, kStep]
  T* const warp_keys = keys + TileSize<T, D>(16) * warp;
  T* const warp_values = values + TileSize<T, D>(16) * warp;

  const int group = g.heads / g.kv_heads, first_tile = k0 / kStep<T, D>;
  const int tiles = (g.tokens + kStep<T, D> - 1) / kStep<T, D> - first_tile;  // of a head
  const auto load = [&](int number) {
    const int head = kv_head * group + number / tiles, q0 = (first_tile + number % tiles) * kStep<T, D>;
    const int at = number % 2 * TileSize<T, D>(kStep<T, D>), inside = g.tokens - q0;
    LoadTile<D>(g, x.qkv + g.Query(sequence, head) + q0 * g.columns, g.columns, kStep<T, D>, inside, queries + at);
    LoadTile<D>(g, x.d_out + g.Out(sequence, head) + q0 * g.OutStride(), g.OutStride(), kStep<T, D>, inside,
                d_out + at);
    static_assert(2 * kStep<T, D> <= kThreads);
    const int i = static_cast<int>(threadIdx.x);
    if (i >= 2 * kStep<T, D>) return;
    const float* const from = (i < kStep<T, D> ? x.log_sum_exp : x.delta) + g.Statistic(sequence, head);
    const int query = q0 + i % kStep<T, D>;
    CopyAsync<4>(statistics + number % 2 * 2 * kStep<T, D> + i, from + min(query, g.tokens - 1), query < g.tokens);
  };
  const int64_t key_offset = g.Key(sequence, kv_head) + k0 * g.columns;
  const int64_t value_offset = g.Value(sequence, kv_head) + k0 * g.columns;
  LoadTile<D>(g, x.qkv + key_offset, g.columns, kRows, g.tokens - k0, keys);
  LoadTile<D>(g, x.qkv + value_offset, g.columns, kRows, g.tokens - k0, values);
  load(0);
  CommitCopies();

  Fragment<D> d_keys, d_values;
  for (int number = 0; number < group * tiles; ++number) {
    if (number + 1 < group * tiles) load(number + 1);
    CommitCopies();
    WaitForCopies<1>();
    __syncthreads();
    const int q0 = (first_tile + number % tiles) * kStep<T, D>;
    if (warp_k0 < q0 + kStep<T, D>) {
      const int at = number % 2 * TileSize<T, D>(kStep<T, D>);
      const float* const log_sum_exp = statistics + number % 2 * 2 * kStep<T, D>;
      const float* const delta = log_sum_exp + kStep<T, D>;
      const HeadDropout dropout(g, sequence, kv_head * group + number / tiles);
      Fragment<kStep<T, D>> weights, d_scores;
      AddProductTransposed<D>(weights, warp_keys, queries + at);
      AddProductTransposed<D>(d_scores, warp_values, d_out + at);
#pragma unroll
      for (int j = 0; j < weights.kTiles; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int column = weights.Column(j, i), query = q0 + column, key = warp_k0 + weights.Row(i);
          const float factor = g.probability > 0 ? dropout.Factor(query, key) : 1.0f;
          weights.value[j][i] = Backward<T>(g, key <= query && query < g.tokens, log_sum_exp[column], delta[column],
                                            factor, weights.value[j][i], d_scores.value[j][i]);
        }
      }
      AddProduct<D>(d_values, weights, d_out + at);
      AddProduct<D>(d_keys, d_scores, queries + at);
    }
    __syncthreads();
  }
  Scale(d_keys, g.scale, g.scale);
  const int64_t row = 16 * warp * g.columns;
  StoreRows(g, d_keys, warp_keys, x.d_qkv + key_offset + row, g.columns, g.tokens - warp_k0);
  StoreRows(g, d_values, warp_values, x.d_qkv + value_offset + row, g.columns, g.tokens - warp_k0);
}

}  // namespace

void AttentionBackward(const CudaContext& cuda, const Tensor& d_out, const Tensor& qkv, const Tensor& out,
                       const Tensor& log_sum_exp, const AttentionShape& shape, const AttentionDropout& dropout,
                       const Tensor& d_qkv) {
  if (qkv.elements() == 0) return;
  const AttentionGeometry geometry = GeometryOf(shape, dropout, d_out, qkv, d_qkv);
  const Workspace<float> delta(cuda, log_sum_exp.elements());
  const int64_t row_blocks = Blocks(shape.tokens, kRows) * shape.batch;
  WithTypeAndDim(qkv.dtype(), shape.head_dim, [&](auto type, auto dim) {
    using T = decltype(type);
    constexpr int D = dim.value;
    const Operands<T> operands = {d_out.data<T>(), qkv.data<T>(), log_sum_exp.data<float>(), delta.data(),
                                  d_qkv.data<T>()};
    const T* const y = out.data<T>();
    constexpr int W = kFullWidth<T>;
    WithAccess<W>(shape.head_dim, Aligned<W>(operands.d_out, y), [&](auto access) {
      using A = decltype(access);
      Launch(cuda, DeltaKernel<A, T>, GridSize(Blocks(log_sum_exp.elements() * kDeltaLanes<A>, kDeltaThreads)),
             kDeltaThreads, 0, geometry, operands.d_out, y, delta.data());
    });
    constexpr size_t kQueryBytes = QueryBytes<T, D>(), kKeyBytes = KeyBytes<T, D>();
    Launch(cuda, QueryBackwardKernel<T, D>, GridSize(row_blocks * shape.heads), kThreads, kQueryBytes, geometry,
           operands);
    Launch(cuda, KeyBackwardKernel<T, D>, GridSize(row_blocks * shape.kv_heads), kThreads, kKeyBytes, geometry,
           operands);
  });
}

}  // namespace trefoil::cuda
