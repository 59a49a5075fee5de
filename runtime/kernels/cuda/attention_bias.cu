#include "runtime/kernels/cuda/attention.h"

namespace trefoil::cuda {
namespace {

// Queries are cut into tiles of kRows positions, keys into tiles of kStep, both from their first position on; where
// ranges leave gaps a tile has fewer rows. Query tile i and key tile j are of band number j - i * kRows / kStep: in all
// pairs of tiles of a band the same distances meet, kRows + kStep - 1 of them, one for each diagonal of a tile.
struct Bands {
  int first_query, first_key;  // positions
  int query_tiles, key_tiles;
  int count;
  int first;  // number of band 0
};

Bands BandsOf(const AttentionShape& s, int step) {
  const auto first = [](const TokenRanges& tokens) { return static_cast<int>(tokens.Position(0)); };
  const auto tiles = [&](const TokenRanges& tokens, int size) {
    return static_cast<int>(Blocks(tokens.Position(tokens.tokens() - 1) + 1 - first(tokens), size));
  };
  const int query_tiles = tiles(s.tokens, kRows), key_tiles = tiles(s.keys(), step);
  const int before = (query_tiles - 1) * (kRows / step);
  return {first(s.tokens), first(s.keys()), query_tiles, key_tiles, before + key_tiles, -before};
}

template <typename T>
struct Operands {
  HeadMatrices<const T> in;
  const T *d_out, *bias;
  const float *log_sum_exp, *delta;
};

template <typename T, int D>
constexpr size_t SharedBytes() {
  return sizeof(T) * (2 * TileSize<T, D>(kRows) + 2 * TileSize<T, D>(kStep<T, D>)) +
         sizeof(float) * kRows * kStep<T, D>;
}

// The sums over one band of one head's d_scores, a thread for each distance, which adds them in ascending order of
// queries. sums: [B, H, bands, kThreads].
template <typename T, int D>
__global__ void __launch_bounds__(kThreads, 2) BiasBackwardKernel(const AttentionGeometry g, const Bands bands,
                                                                  const Operands<T> x, float* __restrict__ sums) {
  constexpr int kColumns = kStep<T, D>;
  static_assert(kRows + kColumns <= kThreads && kRows % kColumns == 0);
  const int number = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const int all_heads = number / bands.count, sequence = all_heads / g.heads, head = all_heads % g.heads;
  const int kv_head = head / (g.heads / g.kv_heads), existing = g.Existing(sequence);

  T* const queries = SharedMemory<T>();              // [kRows, D]
  T* const d_out = queries + TileSize<T, D>(kRows);  // [kRows, D]
  T* const keys = d_out + TileSize<T, D>(kRows);     // [kColumns, D]
  T* const values = keys + TileSize<T, D>(kColumns);
  auto* const d_scores = reinterpret_cast<float*>(values + TileSize<T, D>(kColumns));  // [kRows, kColumns], by position

  const HeadDropout dropout(g, sequence, head);
  float sum = 0;
  for (int i = 0; i < bands.query_tiles; ++i) {
    const int j = bands.first + number % bands.count + i * (kRows / kColumns);
    if (j < 0 || j >= bands.key_tiles) continue;
    const int first_query = bands.first_query + i * kRows, first_key = bands.first_key + j * kColumns;
    const int q0 = static_cast<int>(g.queries.Before(first_query)), k0 = static_cast<int>(g.keys.Before(first_key));
    const int q_end = static_cast<int>(g.queries.Before(first_query + kRows));
    const int k_end = min(static_cast<int>(g.keys.Before(first_key + kColumns)), existing);
    if (q0 == q_end || k0 >= min(k_end, g.Seen(q_end - 1, existing))) continue;

    __syncthreads();  // the last tile's d_scores have been added
    LoadTile<D>(g, x.in.q.Head(sequence, g.tokens, head, g.head_dim) + q0 * x.in.q.stride, x.in.q.stride, kRows,
                q_end - q0, queries);
    LoadTile<D>(g, x.d_out + g.Out(sequence, head) + q0 * g.OutStride(), g.OutStride(), kRows, q_end - q0, d_out);
    LoadTile<D>(g, x.in.k.Head(sequence, g.key_tokens, kv_head, g.head_dim) + k0 * x.in.k.stride, x.in.k.stride,
                kColumns, k_end - k0, keys);
    LoadTile<D>(g, x.in.v.Head(sequence, g.key_tokens, kv_head, g.head_dim) + k0 * x.in.v.stride, x.in.v.stride,
                kColumns, k_end - k0, values);
    CommitCopies();
    for (int at = thread; at < kRows * kColumns; at += kThreads) d_scores[at] = 0;
    WaitForCopies<0>();
    __syncthreads();

    Fragment<kColumns> scores, d_weights;
    AddProductTransposed<D>(scores, queries + TileSize<T, D>(16) * warp, keys);
    AddProductTransposed<D>(d_weights, d_out + TileSize<T, D>(16) * warp, values);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = q0 + 16 * warp + scores.Row(2 * half);
      if (query >= q_end) continue;
      const int seen = min(g.Seen(query, existing), k_end), from = g.FirstSeen(sequence, query);
      const float log_sum_exp = x.log_sum_exp[g.Statistic(sequence, head) + query];
      const float delta = x.delta[g.Statistic(sequence, head) + query];
      float* const row = d_scores + (g.QueryPosition(query) - first_query) * kColumns;
#pragma unroll
      for (int tile = 0; tile < scores.kTiles; ++tile) {
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          const int key = k0 + scores.Column(tile, e);
          if (key < from || key >= seen) continue;
          const float bias = BiasOf<true>(g, x.bias + head, true, query, key);
          const float factor = g.probability > 0 ? dropout.Factor(query, key) : 1.0f;
          Backward<T>(g, true, log_sum_exp, delta, bias, factor, scores.value[tile][e], d_weights.value[tile][e]);
          row[g.KeyPosition(key) - first_key] = d_weights.value[tile][e];
        }
      }
    }
    __syncthreads();
    for (int row = 0; row < kRows; ++row) {
      const int column = row + thread - (kRows - 1);
      if (column >= 0 && column < kColumns) sum += d_scores[row * kColumns + column];
    }
  }
  sums[int64_t{number} * kThreads + thread] = sum;
}

// d_bias[R, H] += the sums, in order of sample and, of each, of band; the bands of a distance overlap.
constexpr int kAddThreads = 256;
__global__ void AddBandsKernel(const AttentionGeometry g, const Bands bands, int step, int distances,
                               const float* __restrict__ sums, float* __restrict__ d_bias) {
  const int number = static_cast<int>(blockIdx.x * kAddThreads + threadIdx.x), head = number % g.heads;
  if (number >= distances * g.heads) return;
  // Of the distance, from diagonal 0 of band 0.
  const int offset = number / g.heads - distances / 2 - (bands.first_key - bands.first_query) - bands.first * step;
  const int first = (max(offset - step + 1, 0) + step - 1) / step;
  const int end = offset + kRows - 1 < 0 ? 0 : min((offset + kRows - 1) / step + 1, bands.count);
  float sum = 0;
  for (int sequence = 0; sequence < g.sequences; ++sequence) {
    for (int band = first; band < end; ++band) {
      const int64_t of_band = (int64_t{sequence} * g.heads + head) * bands.count + band;
      sum += sums[of_band * kThreads + offset - band * step + kRows - 1];
    }
  }
  d_bias[number] += sum;
}

}  // namespace

void AddBiasGradient(const CudaContext& cuda, const AttentionGeometry& geometry, const Tensor& d_out,
                     const AttentionHeads& in, const Tensor& log_sum_exp, const float* delta,
                     const AttentionShape& shape, const Tensor& d_bias) {
  if (shape.tokens.tokens() == 0 || shape.keys().tokens() == 0) return;
  WithTypeAndDim(d_out.dtype(), shape.head_dim, [&](auto type, auto dim) {
    using T = decltype(type);
    constexpr int D = dim.value, kColumns = kStep<T, D>;
    const Bands bands = BandsOf(shape, kColumns);
    const int64_t blocks = shape.batch * shape.heads * bands.count;
    const Workspace<float> sums(cuda, blocks * kThreads);
    const Operands<T> operands = {HeadMatrices<const T>(in), d_out.data<T>(), BiasAtZero<T>(in.bias),
                                  log_sum_exp.data<float>(), delta};
    Launch(cuda, BiasBackwardKernel<T, D>, GridSize(blocks), kThreads, SharedBytes<T, D>(), geometry, bands, operands,
           sums.data());
    Launch(cuda, AddBandsKernel, GridSize(Blocks(d_bias.elements(), kAddThreads)), kAddThreads, 0, geometry, bands,
           kColumns, static_cast<int>(d_bias.dim(0)), sums.data(), d_bias.data<float>());
  });
}

}  // namespace trefoil::cuda
