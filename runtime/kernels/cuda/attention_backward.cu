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

template <typename T, typename G>
struct Operands {
  const T* d_out;
  HeadMatrices<const T> in;
  const float *log_sum_exp, *delta;
  HeadMatrices<G> gradients;
  bool add;  // to the gradients
};

template <typename T, int D>
constexpr size_t QueryBytes() {
  return sizeof(T) * (2 * TileSize<T, D>(kRows) + 4 * TileSize<T, D>(kStep<T, D>));
}

// d_query of one block of queries of one head, from key tiles in ascending order.
template <typename T, int D, typename G, bool kBias>
__global__ void __launch_bounds__(kThreads, 2) QueryBackwardKernel(const AttentionGeometry g, const Operands<T, G> x,
                                                                   const T* __restrict__ bias_at_zero) {
  const int all_heads = g.sequences * g.heads, number = static_cast<int>(blockIdx.x);
  const int block = static_cast<int>(gridDim.x) / all_heads - 1 - number / all_heads;  // the longest first
  const int sequence = number % all_heads / g.heads, head = number % g.heads;
  const int kv_head = head / (g.heads / g.kv_heads), existing = g.Existing(sequence);
  const int q0 = block * kRows, warp = static_cast<int>(threadIdx.x) / 32, warp_q0 = q0 + 16 * warp;

  T* const queries = SharedMemory<T>();              // [kRows, D]
  T* const d_out = queries + TileSize<T, D>(kRows);  // [kRows, D]
  T* const keys = d_out + TileSize<T, D>(kRows);     // two of [kStep, D]
  T* const values = keys + 2 * TileSize<T, D>(kStep<T, D>);
  T* const warp_queries = queries + TileSize<T, D>(16) * warp;
  const T* const warp_d_out = d_out + TileSize<T, D>(16) * warp;
  const auto load = [&](int tile) { LoadKeyTile<D>(g, x.in, sequence, kv_head, tile, keys, values); };
  const int tiles = (g.Seen(q0 + kRows - 1, existing) + kStep<T, D> - 1) / kStep<T, D>;
  const int first_tile = g.FirstSeen(sequence, q0) / kStep<T, D>;
  if (tiles > first_tile) {  // else nobody would wait for the copies before StoreGradient
    LoadTile<D>(g, x.in.q.Head(sequence, g.tokens, head, g.head_dim) + q0 * x.in.q.stride, x.in.q.stride, kRows,
                g.tokens - q0, queries);
    LoadTile<D>(g, x.d_out + g.Out(sequence, head) + q0 * g.OutStride(), g.OutStride(), kRows, g.tokens - q0, d_out);
    load(first_tile);
  }
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
  const int seen[2] = {g.Seen(warp_q0 + d_queries.Row(0), existing), g.Seen(warp_q0 + d_queries.Row(2), existing)};
  const int from[2] = {g.FirstSeen(sequence, warp_q0 + d_queries.Row(0)),
                       g.FirstSeen(sequence, warp_q0 + d_queries.Row(2))};
  const int seen_by_warp = g.Seen(warp_q0 + 15, existing), from_of_warp = g.FirstSeen(sequence, warp_q0);
  for (int tile = first_tile; tile < tiles; ++tile) {
    if (tile + 1 < tiles) load(tile + 1);
    CommitCopies();
    WaitForCopies<1>();
    __syncthreads();
    const int k0 = tile * kStep<T, D>, at = tile % 2 * TileSize<T, D>(kStep<T, D>);
    if (k0 < seen_by_warp && from_of_warp < k0 + kStep<T, D>) {
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
          const auto backward = [&](int k, float factor, float score, float& d_score) {
            const bool sees = from[i / 2] <= k && k < seen[i / 2];
            const float bias = BiasOf<kBias>(g, bias_at_zero + head, sees, query, k);
            Backward<T>(g, sees, log_sum_exp[i / 2], delta[i / 2], bias, factor, score, d_score);
          };
          backward(key, factors.x, scores.value[j][i], d_scores.value[j][i]);
          backward(key + 1, factors.y, scores.value[j][i + 1], d_scores.value[j][i + 1]);
        }
      }
      AddProduct<D>(d_queries, d_scores, keys + at);
    }
    __syncthreads();
  }
  Scale(d_queries, g.scale, g.scale);
  StoreGradient(g, d_queries, warp_queries,
                x.gradients.q.Head(sequence, g.tokens, head, g.head_dim) + warp_q0 * x.gradients.q.stride,
                x.gradients.q.stride, g.tokens - warp_q0, x.add);
}

template <typename T, int D>
constexpr size_t KeyBytes() {
  return QueryBytes<T, D>() + 4 * sizeof(float) * kStep<T, D>;
}

// d_key and d_value of one block of keys of one key/value head: the query heads that attend with it in order, of each
// the tiles of queries in ascending order. Scores are computed transposed, keys down and queries across.
template <typename T, int D, typename G, bool kBias>
__global__ void __launch_bounds__(kThreads, 2) KeyBackwardKernel(const AttentionGeometry g, const Operands<T, G> x,
                                                                 const T* __restrict__ bias_at_zero) {
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

  const int group = g.heads / g.kv_heads, existing = g.Existing(sequence);
  const int first_tile = g.FirstSeeing(k0, existing) / kStep<T, D>;
  // Of a head; may be none. The last key of the block has the last queries.
  const int end = g.EndSeeing(sequence, min(k0 + kRows, g.key_tokens) - 1);
  const int tiles = max(0, (end + kStep<T, D> - 1) / kStep<T, D> - first_tile);
  const auto load = [&](int number) {
    const int head = kv_head * group + number / tiles, q0 = (first_tile + number % tiles) * kStep<T, D>;
    const int at = number % 2 * TileSize<T, D>(kStep<T, D>), inside = g.tokens - q0;
    LoadTile<D>(g, x.in.q.Head(sequence, g.tokens, head, g.head_dim) + q0 * x.in.q.stride, x.in.q.stride, kStep<T, D>,
                inside, queries + at);
    LoadTile<D>(g, x.d_out + g.Out(sequence, head) + q0 * g.OutStride(), g.OutStride(), kStep<T, D>, inside,
                d_out + at);
    static_assert(2 * kStep<T, D> <= kThreads);
    const int i = static_cast<int>(threadIdx.x);
    if (i >= 2 * kStep<T, D>) return;
    const float* const from = (i < kStep<T, D> ? x.log_sum_exp : x.delta) + g.Statistic(sequence, head);
    const int query = q0 + i % kStep<T, D>;
    CopyAsync<4>(statistics + number % 2 * 2 * kStep<T, D> + i, from + min(query, g.tokens - 1), query < g.tokens);
  };
  const auto load_own = [&](const HeadMatrix<const T>& from, T* to) {
    LoadTile<D>(g, from.Head(sequence, g.key_tokens, kv_head, g.head_dim) + k0 * from.stride, from.stride, kRows,
                g.key_tokens - k0, to);
  };
  if (tiles > 0) {  // as above
    load_own(x.in.k, keys);
    load_own(x.in.v, values);
    load(0);
  }
  CommitCopies();

  Fragment<D> d_keys, d_values;
  const int first_seeing[2] = {g.FirstSeeing(warp_k0 + d_keys.Row(0), existing),
                               g.FirstSeeing(warp_k0 + d_keys.Row(2), existing)};
  const int end_seeing[2] = {g.EndSeeing(sequence, warp_k0 + d_keys.Row(0)),
                             g.EndSeeing(sequence, warp_k0 + d_keys.Row(2))};
  const int first_seeing_warp = g.FirstSeeing(warp_k0, existing);
  for (int number = 0; number < group * tiles; ++number) {
    if (number + 1 < group * tiles) load(number + 1);
    CommitCopies();
    WaitForCopies<1>();
    __syncthreads();
    const int q0 = (first_tile + number % tiles) * kStep<T, D>;
    if (first_seeing_warp < q0 + kStep<T, D>) {
      const int at = number % 2 * TileSize<T, D>(kStep<T, D>);
      const float* const log_sum_exp = statistics + number % 2 * 2 * kStep<T, D>;
      const float* const delta = log_sum_exp + kStep<T, D>;
      const int head = kv_head * group + number / tiles;
      const HeadDropout dropout(g, sequence, head);
      Fragment<kStep<T, D>> weights, d_scores;
      AddProductTransposed<D>(weights, warp_keys, queries + at);
      AddProductTransposed<D>(d_scores, warp_values, d_out + at);
#pragma unroll
      for (int j = 0; j < weights.kTiles; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int column = weights.Column(j, i), query = q0 + column, key = warp_k0 + weights.Row(i);
          const float factor = g.probability > 0 ? dropout.Factor(query, key) : 1.0f;
          const bool seen = first_seeing[i / 2] <= query && query < end_seeing[i / 2];
          const float bias = BiasOf<kBias>(g, bias_at_zero + head, seen, query, key);
          weights.value[j][i] = Backward<T>(g, seen, log_sum_exp[column], delta[column], bias, factor,
                                            weights.value[j][i], d_scores.value[j][i]);
        }
      }
      AddProduct<D>(d_values, weights, d_out + at);
      AddProduct<D>(d_keys, d_scores, queries + at);
    }
    __syncthreads();
  }
  Scale(d_keys, g.scale, g.scale);
  const auto store = [&](const HeadMatrix<G>& to, const Fragment<D>& from, T* tile) {
    StoreGradient(g, from, tile, to.Head(sequence, g.key_tokens, kv_head, g.head_dim) + warp_k0 * to.stride, to.stride,
                  g.key_tokens - warp_k0, x.add);
  };
  store(x.gradients.k, d_keys, warp_keys);
  store(x.gradients.v, d_values, warp_values);
}

}  // namespace

void AttentionBackward(const CudaContext& cuda, const Tensor& d_out, const AttentionHeads& in, const Tensor& out,
                       const Tensor& log_sum_exp, const AttentionShape& shape, const AttentionDropout& dropout,
                       const AttentionHeads& gradients, Accumulate accumulate) {
  if (shape.batch == 0) return;
  const int64_t queries = shape.tokens.tokens(), keys = shape.keys().tokens();
  const AttentionGeometry geometry = GeometryOf(
      shape, dropout, {in.q, in.k, in.v, {d_out, 0}, gradients.q, gradients.k, gradients.v});
  const Workspace<float> delta(cuda, log_sum_exp.elements());
  WithTypeAndDim(out.dtype(), shape.head_dim, [&](auto type, auto dim) {
    using T = decltype(type);
    constexpr int D = dim.value;
    const T *const y = out.data<T>(), *const dy = d_out.data<T>();
    constexpr int W = kFullWidth<T>;
    if (queries > 0) {
      WithAccess<W>(shape.head_dim, Aligned<W>(dy, y), [&](auto access) {
        using A = decltype(access);
        Launch(cuda, DeltaKernel<A, T>, GridSize(Blocks(log_sum_exp.elements() * kDeltaLanes<A>, kDeltaThreads)),
               kDeltaThreads, 0, geometry, dy, y, delta.data());
      });
    }
    WithType(gradients.q.rows.dtype(), [&](auto gradient_type) {
      using G = decltype(gradient_type);
      if constexpr (sizeof(G) >= sizeof(T)) {
        const Operands<T, G> operands = {dy,           HeadMatrices<const T>(in),  log_sum_exp.data<float>(),
                                         delta.data(), HeadMatrices<G>(gradients), accumulate == Accumulate::kYes};
        const T* const bias_at_zero = BiasAtZero<T>(in.bias);
        WithBias(in.bias, [&](auto biased) {
          constexpr bool kBias = biased.value;
          if (queries > 0) {
            Launch(cuda, QueryBackwardKernel<T, D, G, kBias>,
                   GridSize(Blocks(queries, kRows) * shape.batch * shape.heads), kThreads, QueryBytes<T, D>(), geometry,
                   operands, bias_at_zero);
          }
          if (keys > 0) {
            Launch(cuda, KeyBackwardKernel<T, D, G, kBias>,
                   GridSize(Blocks(keys, kRows) * shape.batch * shape.kv_heads), kThreads, KeyBytes<T, D>(), geometry,
                   operands, bias_at_zero);
          }
        });
      }
    });
  });
  if (gradients.bias.defined()) {
    AddBiasGradient(cuda, geometry, d_out, in, log_sum_exp, delta.data(), shape, gradients.bias);
  }
}

}  // namespace trefoil::cuda
