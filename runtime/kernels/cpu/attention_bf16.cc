#include "runtime/kernels/cpu/attention_bf16.h"

namespace trefoil::cpu {
namespace {

struct Layout : Bf16Layout {
  Layout(const AttentionShape& s, int64_t distances) : Bf16Layout(s) {
    keys = TakeBf16(Blocks(s.keys().tokens(), kKeyBlock) * kKeyBlock * padded);
    values = TakeBf16(key_tokens * padded);
    queries = TakeBf16(RowsFit(s.tokens.tokens(), s.head_dim) ? 0 : tokens * padded);
    out = Take(kBlock * padded);
    scores = Take(kBlock * kKeyBlock);
    weights = TakeBf16(kBlock * kKeyBlock);
    bias = Take(distances);
  }
  int64_t keys;             // packed, per key block [padded / 2, kKeyBlock]
  int64_t values;           // packed [Tk / 2, padded]
  int64_t queries;          // [Tq, padded]
  int64_t out;              // [kBlock, padded]
  int64_t scores, weights;  // [kBlock, kKeyBlock], fp32 and bf16
  int64_t bias;             // [R]
};

void Head(const Bf16Kernel& kernel, const AttentionHeads& in, const AttentionShape& shape,
          const AttentionDropout& dropout, int64_t b, int64_t head, const Layout& layout, float* scratch,
          const HeadColumns& out, float* log_sum_exp) {
  const int64_t tokens = shape.tokens.tokens(), key_tokens = shape.keys().tokens(), existing = ExistingKeys(shape, b);
  const int64_t dim = shape.head_dim, padded = layout.padded, kv_head = head / (shape.heads / shape.kv_heads);
  const HeadRows<BFloat16> query(in.q, b, tokens, head, dim), key(in.k, b, key_tokens, kv_head, dim),
      value(in.v, b, key_tokens, kv_head, dim), output(out, b, tokens, head, dim);
  auto *keys = reinterpret_cast<Bf16Pair*>(scratch + layout.keys),
       *values = reinterpret_cast<Bf16Pair*>(scratch + layout.values);
  float *scores = scratch + layout.scores, *sum = scratch + layout.out;
  auto* weights = reinterpret_cast<BFloat16*>(scratch + layout.weights);
  for (int64_t k0 = 0; k0 < existing; k0 += kKeyBlock) {
    PackTransposed(key.Row(k0), key.stride, std::min(kKeyBlock, existing - k0), dim, keys + k0 * padded / 2, kKeyBlock);
  }
  PackRows(value.data, value.stride, existing, dim, values, padded);
  const LeftRows queries = Left(query, tokens, dim, reinterpret_cast<BFloat16*>(scratch + layout.queries));
  const ByDistance bias(scratch + layout.bias, Distances(in));
  if (in.bias.defined()) bias.Load(in.bias, head, RowsOf::kQueries);
  const float scale = shape.score_scale(), left_to_do = in.bias.defined() ? 1.0f : scale;
  const Bf16Work work(kernel);
  for (int64_t q0 = 0; q0 < tokens; q0 += kBlock) {
    const int64_t rows = std::min(kBlock, tokens - q0), padded_rows = PadBf16(rows);
    const SeenKeys seen(shape, existing, b, q0, rows);
    const int64_t begin = seen.Begin(kKeyBlock);
    Running running(rows);
    if (seen.empty(kKeyBlock)) std::fill_n(sum, rows * padded, 0.0f);
    for (int64_t k0 = begin; k0 < seen.most; k0 += kKeyBlock) {
      const int64_t columns = std::min(kKeyBlock, seen.most - k0), wide = PadBf16(columns);
      kernel.block(padded_rows, wide, padded, queries.data + q0 * queries.stride, queries.stride,
                   keys + k0 * padded / 2, kKeyBlock, scores, kKeyBlock, false);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t first = seen.From(r, k0, columns), valid = seen.Of(r, k0, columns);
        float* row = scores + r * kKeyBlock;
        if (in.bias.defined()) bias.AddTo(row, scale, shape.tokens.Position(q0 + r), shape.keys(), k0, valid);
        UpdateRow(row, left_to_do, first, valid, wide, running, r, sum + r * padded, padded);
        if (dropout.probability > 0) {
          float buffer[AttentionDropoutBuffer(kKeyBlock)];
          const float* factors = AttentionDropoutFactors(shape, dropout, b, head, q0 + r, k0, valid, buffer);
          for (int64_t k = 0; k < valid; ++k) row[k] *= factors[k];
        }
        StoreRows(row, kKeyBlock, 1, wide, 1.0f, weights + r * kKeyBlock, kKeyBlock);
      }
      // Rows from `rows` on are what an earlier block left there; their results are not read.
      kernel.block(padded_rows, padded, wide, weights, kKeyBlock, values + k0 * padded / 2, padded, sum, padded,
                   k0 > begin);
    }
    StoreQueries(running, sum, padded, rows, dim, output.Row(q0), output.stride,
                 log_sum_exp + (b * shape.heads + head) * tokens + q0);
  }
}

}  // namespace

void AttentionBf16(const CpuContext& cpu, const AttentionHeads& in, const AttentionShape& shape,
                   const AttentionDropout& dropout, const Tensor& out, const Tensor& log_sum_exp) {
  const Layout layout(shape, Distances(in));
  ParallelTasks(cpu, shape.batch * shape.heads, layout.total, [&](int64_t task, float* scratch) {
    Head(*cpu.bf16, in, shape, dropout, task / shape.heads, task % shape.heads, layout, scratch, {out, 0},
         log_sum_exp.data<float>());
  });
}

}  // namespace trefoil::cpu
