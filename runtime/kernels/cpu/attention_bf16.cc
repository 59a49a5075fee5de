#include "runtime/kernels/cpu/attention_bf16.h"

namespace trefoil::cpu {
namespace {

struct Layout : Bf16Layout {
  explicit Layout(const AttentionShape& s) : Bf16Layout(s) {
    keys = TakeBf16(Blocks(s.tokens, kKeyBlock) * kKeyBlock * padded);
    values = TakeBf16(tokens * padded);
    queries = TakeBf16(RowsFit(s) ? 0 : tokens * padded);
    out = Take(kBlock * padded);
    scores = Take(kBlock * kKeyBlock);
    weights = TakeBf16(kBlock * kKeyBlock);
  }
  int64_t keys;             // packed, per key block [padded / 2, kKeyBlock]
  int64_t values;           // packed [T / 2, padded]
  int64_t queries;          // [T, padded]
  int64_t out;              // [kBlock, padded]
  int64_t scores, weights;  // [kBlock, kKeyBlock], fp32 and bf16
};

void Head(const Bf16Kernel& kernel, const BFloat16* qkv, const AttentionShape& shape, const AttentionDropout& dropout,
          int64_t b, int64_t head, const Layout& layout, float* scratch, BFloat16* out, float* log_sum_exp) {
  const int64_t tokens = shape.tokens, dim = shape.head_dim, padded = layout.padded;
  const int64_t kv_head = head / (shape.heads / shape.kv_heads);
  const HeadRows query = QueryRows(shape, b, head), key = KeyRows(shape, b, kv_head),
                 value = ValueRows(shape, b, kv_head), output = OutputRows(shape, b, head);
  auto *keys = reinterpret_cast<Bf16Pair*>(scratch + layout.keys),
       *values = reinterpret_cast<Bf16Pair*>(scratch + layout.values);
  float *scores = scratch + layout.scores, *sum = scratch + layout.out;
  auto* weights = reinterpret_cast<BFloat16*>(scratch + layout.weights);
  for (int64_t k0 = 0; k0 < tokens; k0 += kKeyBlock) {
    PackTransposed(qkv + key.offset + k0 * key.stride, key.stride, std::min(kKeyBlock, tokens - k0), dim,
                   keys + k0 * padded / 2, kKeyBlock);
  }
  PackRows(qkv + value.offset, value.stride, tokens, dim, values, padded);
  const LeftRows queries =
      Left(shape, qkv + query.offset, query.stride, reinterpret_cast<BFloat16*>(scratch + layout.queries));
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  const Bf16Work work(kernel);
  Running running;
  for (int64_t q0 = 0; q0 < tokens; q0 += kBlock) {
    const int64_t rows = std::min(kBlock, tokens - q0), padded_rows = PadBf16(rows);
    for (int64_t k0 = 0; k0 <= q0; k0 += kKeyBlock) {
      const int64_t columns = std::min(kKeyBlock, q0 + rows - k0), wide = PadBf16(columns);
      kernel.block(padded_rows, wide, padded, queries.data + q0 * queries.stride, queries.stride,
                   keys + k0 * padded / 2, kKeyBlock, scores, kKeyBlock, false);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t valid = std::min(columns, q0 + r - k0 + 1);
        float* row = scores + r * kKeyBlock;
        UpdateRow(row, scale, valid, wide, running, r, sum + r * padded, padded, k0 == 0);
        if (dropout.mask.probability > 0) {
          float buffer[DropoutBuffer(kKeyBlock)];
          const float* factors = AttentionDropoutFactors(shape, dropout, b, head, q0 + r, k0, valid, buffer);
          for (int64_t k = 0; k < valid; ++k) row[k] *= factors[k];
        }
        StoreRows(row, kKeyBlock, 1, wide, 1.0f, weights + r * kKeyBlock, kKeyBlock);
      }
      // Rows from `rows` on are what an earlier block left there; their results are not read.
      kernel.block(padded_rows, padded, wide, weights, kKeyBlock, values + k0 * padded / 2, padded, sum, padded,
                   k0 > 0);
    }
    StoreQueries(running, sum, padded, rows, dim, out + output.offset + q0 * output.stride, output.stride,
                 log_sum_exp + (b * shape.heads + head) * tokens + q0);
  }
}

}  // namespace

void AttentionBf16(const CpuContext& cpu, const Tensor& qkv, const AttentionShape& shape,
                   const AttentionDropout& dropout, const Tensor& out, const Tensor& log_sum_exp) {
  const Layout layout(shape);
  const BFloat16* in = qkv.data<BFloat16>();
  BFloat16* to = out.data<BFloat16>();
  float* sums = log_sum_exp.data<float>();
  ParallelTasks(cpu, shape.batch * shape.heads, layout.total, [&](int64_t task, float* scratch) {
    Head(*cpu.bf16, in, shape, dropout, task / shape.heads, task % shape.heads, layout, scratch, to, sums);
  });
}

}  // namespace trefoil::cpu
