#include "runtime/kernels/cuda/attention.h"

namespace trefoil::cuda {
namespace {

template <typename T, int D>
constexpr size_t SharedBytes() {
  return sizeof(T) * (TileSize<T, D>(kRows) + 4 * TileSize<T, D>(kStep<T, D>));
}

// One block of queries of one head, against key tiles in ascending order (Dao et al. 2022, algorithm 1, with the loops
// exchanged). Blocks are numbered from the last queries, which have the most keys, to the first.
template <typename T, int D>
__global__ void __launch_bounds__(kThreads, 2) AttentionKernel(const AttentionGeometry g, const T* __restrict__ qkv,
                                                               T* __restrict__ out, float* __restrict__ log_sum_exp) {
  const int all_heads = g.sequences * g.heads, number = static_cast<int>(blockIdx.x);
  const int block = static_cast<int>(gridDim.x) / all_heads - 1 - number / all_heads;
  const int sequence = number % all_heads / g.heads, head = number % g.heads;
  const int kv_head = head / (g.heads / g.kv_heads);
  const int q0 = block * kRows, warp = static_cast<int>(threadIdx.x) / 32, warp_q0 = q0 + 16 * warp;

  T* const queries = SharedMemory<T>();             // [kRows, D]
  T* const keys = queries + TileSize<T, D>(kRows);  // two of [kStep, D]
  T* const values = keys + 2 * TileSize<T, D>(kStep<T, D>);
  T* const warp_queries = queries + TileSize<T, D>(16) * warp;
  const T* const all_keys = qkv + g.Key(sequence, kv_head);
  const T* const all_values = qkv + g.Value(sequence, kv_head);
  const auto load = [&](int tile) {
    const int64_t first = static_cast<int64_t>(tile) * kStep<T, D>;
    const int at = tile % 2 * TileSize<T, D>(kStep<T, D>), inside = g.tokens - tile * kStep<T, D>;
    LoadTile<D>(g, all_keys + first * g.columns, g.columns, kStep<T, D>, inside, keys + at);
    LoadTile<D>(g, all_values + first * g.columns, g.columns, kStep<T, D>, inside, values + at);
  };
  LoadTile<D>(g, qkv + g.Query(sequence, head) + q0 * g.columns, g.columns, kRows, g.tokens - q0, queries);
  load(0);
  CommitCopies();

  const HeadDropout dropout(g, sequence, head);
  Fragment<D> sum;                            // of weights times values
  float maximum[2] = {-INFINITY, -INFINITY};  // of the scores of rows Row(0) and Row(2)
  float weight_sum[2] = {};                   // this lane's part
  const int tiles = (min(q0 + kRows, g.tokens) + kStep<T, D> - 1) / kStep<T, D>;
  for (int tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) load(tile + 1);
    CommitCopies();
    WaitForCopies<1>();
    __syncthreads();
    const int k0 = tile * kStep<T, D>, at = tile % 2 * TileSize<T, D>(kStep<T, D>);
    if (k0 < warp_q0 + 16) {
      Fragment<kStep<T, D>> weights;
      AddProductTransposed<D>(weights, warp_queries, keys + at);
      float highest[2] = {maximum[0], maximum[1]};
#pragma unroll
      for (int j = 0; j < weights.kTiles; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const bool seen = k0 + weights.Column(j, i) <= warp_q0 + weights.Row(i);
          float& score = weights.value[j][i];
          score = seen ? score * g.scale : -INFINITY;
          highest[i / 2] = fmaxf(highest[i / 2], score);
        }
      }
      float factor[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        highest[half] = QuadMaximum(highest[half]);
        factor[half] = Exp<T>(maximum[half] - highest[half]);
        maximum[half] = highest[half];
        weight_sum[half] *= factor[half];
      }
      Scale(sum, factor[0], factor[1]);
#pragma unroll
      for (int j = 0; j < weights.kTiles; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& weight = weights.value[j][i];
          weight = Exp<T>(weight - maximum[i / 2]);
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
  Scale(sum, 1.0f / weight_sum[0], 1.0f / weight_sum[1]);
  StoreRows(g, sum, warp_queries, out + g.Out(sequence, head) + warp_q0 * g.OutStride(), g.OutStride(),
            g.tokens - warp_q0);
}

}  // namespace

void Attention(const CudaContext& cuda, const Tensor& qkv, const AttentionShape& shape, const AttentionDropout& dropout,
               const Tensor& out, const Tensor& log_sum_exp) {
  if (out.elements() == 0) return;
  const AttentionGeometry geometry = GeometryOf(shape, dropout, qkv, out);
  const unsigned blocks = GridSize(Blocks(shape.tokens, kRows) * shape.batch * shape.heads);
  WithTypeAndDim(qkv.dtype(), shape.head_dim, [&](auto type, auto dim) {
    using T = decltype(type);
    constexpr int D = dim.value;
    constexpr size_t kBytes = SharedBytes<T, D>();
    Launch(cuda, AttentionKernel<T, D>, blocks, kThreads, kBytes, geometry, qkv.data<T>(), out.data<T>(),
           log_sum_exp.data<float>());
  });
}

}  // namespace trefoil::cuda
