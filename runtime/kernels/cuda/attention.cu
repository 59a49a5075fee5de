#include "runtime/kernels/cuda/attention.h"

namespace trefoil::cuda {
namespace {

template <typename T, int D>
constexpr size_t SharedBytes() {
  return sizeof(T) * (TileSize<T, D>(kRows) + 4 * TileSize<T, D>(kStep<T, D>));
}

// One block of queries of one head, against key tiles in ascending order (Dao et al. 2022, algorithm 1, with the loops
// exchanged). Blocks are numbered from the last queries, which have the most keys, to the first.
template <typename T, int D, bool kBias>
__global__ void __launch_bounds__(kThreads, 2) AttentionKernel(const AttentionGeometry g,
                                                               const HeadMatrices<const T> in,
                                                               const T* __restrict__ bias, T* __restrict__ out,
                                                               float* __restrict__ log_sum_exp) {
  const int all_heads = g.sequences * g.heads, number = static_cast<int>(blockIdx.x);
  const int block = static_cast<int>(gridDim.x) / all_heads - 1 - number / all_heads;
  const int sequence = number % all_heads / g.heads, head = number % g.heads;
  const int kv_head = head / (g.heads / g.kv_heads), existing = g.Existing(sequence);
  const int q0 = block * kRows, warp = static_cast<int>(threadIdx.x) / 32, warp_q0 = q0 + 16 * warp;

  T* const queries = SharedMemory<T>();             // [kRows, D]
  T* const keys = queries + TileSize<T, D>(kRows);  // two of [kStep, D]
  T* const values = keys + 2 * TileSize<T, D>(kStep<T, D>);
  T* const warp_queries = queries + TileSize<T, D>(16) * warp;
  const auto load = [&](int tile) { LoadKeyTile<D>(g, in, sequence, kv_head, tile, keys, values); };
  const int tiles = (g.Seen(q0 + kRows - 1, existing) + kStep<T, D> - 1) / kStep<T, D>;
  const int first_tile = g.FirstSeen(sequence, q0) / kStep<T, D>;
  if (tiles > first_tile) {  // else nobody would wait for the copies before StoreRows
    LoadTile<D>(g, in.q.Head(sequence, g.tokens, head, g.head_dim) + q0 * in.q.stride, in.q.stride, kRows,
                g.tokens - q0, queries);
    load(first_tile);
  }
  CommitCopies();

  const HeadDropout dropout(g, sequence, head);
  Fragment<D> sum;                            // of weights times values
  float maximum[2] = {-INFINITY, -INFINITY};  // of the scores of rows Row(0) and Row(2)
  float weight_sum[2] = {};                   // this lane's part
  const int seen[2] = {g.Seen(warp_q0 + sum.Row(0), existing), g.Seen(warp_q0 + sum.Row(2), existing)};
  const int from[2] = {g.FirstSeen(sequence, warp_q0 + sum.Row(0)), g.FirstSeen(sequence, warp_q0 + sum.Row(2))};
  const int seen_by_warp = g.Seen(warp_q0 + 15, existing), from_of_warp = g.FirstSeen(sequence, warp_q0);
  for (int tile = first_tile; tile < tiles; ++tile) {
    if (tile + 1 < tiles) load(tile + 1);
    CommitCopies();
    WaitForCopies<1>();
    __syncthreads();
    const int k0 = tile * kStep<T, D>, at = tile % 2 * TileSize<T, D>(kStep<T, D>);
    if (k0 < seen_by_warp && from_of_warp < k0 + kStep<T, D>) {
      Fragment<kStep<T, D>> weights;
      AddProductTransposed<D>(weights, warp_queries, keys + at);
      const float before[2] = {maximum[0], maximum[1]};
      float highest[2] = {maximum[0], maximum[1]}, shift[2];
#pragma unroll
      for (int j = 0; j < weights.kTiles; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& score = weights.value[j][i];
          const int key = k0 + weights.Column(j, i);
          const bool sees = from[i / 2] <= key && key < seen[i / 2];
          score = sees ? score * g.scale : -INFINITY;
          if constexpr (kBias) {
            score += BiasOf<true>(g, bias + head, sees, warp_q0 + weights.Row(i), key);
          }
          highest[i / 2] = fmaxf(highest[i / 2], score);
        }
      }
      float factor[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        maximum[half] = QuadMaximum(highest[half]);
        // A row that has seen no key yet: exp(-infinity - 0) is 0, where the difference of infinities is a NaN.
        shift[half] = maximum[half] == -INFINITY ? 0.0f : maximum[half];
        factor[half] = Exp<T>(before[half] - shift[half]);
        weight_sum[half] *= factor[half];
      }
      Scale(sum, factor[0], factor[1]);
#pragma unroll
      for (int j = 0; j < weights.kTiles; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& weight = weights.value[j][i];
          weight = Exp<T>(weight - shift[i / 2]);
          weight_sum[i / 2] += weight;
        }
        if (g.probability > 0) {
#pragma unroll
          for (int i = 0; i < 4; i += 2) {
            const float2 factors = dropout.Factors(warp_q0 + weights.Row(i), k0 + weights.Column(j, i));
            weights.value[j][i] *= factors.x;
            weights.value[j][i + 1] *= factors.y;
          }
        }
      }
      AddProduct<D>(sum, weights, values + at);
    }
    __syncthreads();
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    weight_sum[half] = QuadSum(weight_sum[half]);
    const int query = warp_q0 + sum.Row(2 * half);
    if (Lane() % 4 == 0 && query < g.tokens) {
      log_sum_exp[g.Statistic(sequence, head) + query] = maximum[half] + logf(weight_sum[half]);
    }
  }
  Scale(sum, weight_sum[0] == 0 ? 0.0f : 1.0f / weight_sum[0], weight_sum[1] == 0 ? 0.0f : 1.0f / weight_sum[1]);
  StoreRows(g, sum, warp_queries, out + g.Out(sequence, head) + warp_q0 * g.OutStride(), g.OutStride(),
            g.tokens - warp_q0);
}

}  // namespace

void Attention(const CudaContext& cuda, const AttentionHeads& in, const AttentionShape& shape,
               const AttentionDropout& dropout, const Tensor& out, const Tensor& log_sum_exp) {
  if (out.elements() == 0) return;
  const AttentionGeometry geometry = GeometryOf(shape, dropout, {in.q, in.k, in.v, {out, 0}});
  const unsigned blocks = GridSize(Blocks(shape.tokens.tokens(), kRows) * shape.batch * shape.heads);
  WithTypeAndDim(out.dtype(), shape.head_dim, [&](auto type, auto dim) {
    using T = decltype(type);
    constexpr int D = dim.value;
    constexpr size_t kBytes = SharedBytes<T, D>();
    WithBias(in.bias, [&](auto biased) {
      Launch(cuda, AttentionKernel<T, D, biased.value>, blocks, kThreads, kBytes, geometry, HeadMatrices<const T>(in),
             BiasAtZero<T>(in.bias), out.data<T>(), log_sum_exp.data<float>());
    });
  });
}

}  // namespace trefoil::cuda
