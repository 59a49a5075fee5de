#include "runtime/kernels/cpu/attention.h"

#include "runtime/kernels/cpu/attention_bf16.h"

namespace trefoil::cpu {
namespace {

struct Layout : ScratchLayout {
  Layout(const AttentionShape& s, int64_t distances) : padded(PadColumns(s.head_dim)) {
    const int64_t tokens = Blocks(s.keys().tokens(), kBlock) * kBlock;
    keys = Take(tokens * s.head_dim);
    values = Take(tokens * padded);
    for (int64_t* offset : {&queries, &out}) *offset = Take(kBlock * padded);
    weights = Take(kBlock * kBlock);
    bias = Take(distances);
  }
  int64_t padded;        // columns of a padded row of D
  int64_t keys;          // per key block [D, kBlock]
  int64_t values;        // [Tk, padded]
  int64_t queries, out;  // [kBlock, padded]
  int64_t weights;       // [kBlock, kBlock]
  int64_t bias;          // [R]
};

template <typename T>
void Head(const GemmKernel& gemm, const AttentionHeads& in, const AttentionShape& shape,
          const AttentionDropout& dropout, int64_t b, int64_t head, const Layout& layout, float* scratch,
          const HeadColumns& out, float* log_sum_exp) {
  const int64_t tokens = shape.tokens.tokens(), key_tokens = shape.keys().tokens(), existing = ExistingKeys(shape, b);
  const int64_t dim = shape.head_dim, padded = layout.padded, kv_head = head / (shape.heads / shape.kv_heads);
  const HeadRows<T> query(in.q, b, tokens, head, dim), key(in.k, b, key_tokens, kv_head, dim),
      value(in.v, b, key_tokens, kv_head, dim), output(out, b, tokens, head, dim);
  float *keys = scratch + layout.keys, *values = scratch + layout.values, *queries = scratch + layout.queries;
  float *weights = scratch + layout.weights, *sum = scratch + layout.out;
  for (int64_t k0 = 0; k0 < existing; k0 += kBlock) {
    LoadTransposed(key.Row(k0), key.stride, std::min(kBlock, existing - k0), dim, keys + k0 * dim, kBlock);
  }
  LoadRows(value.data, value.stride, existing, dim, 1.0f, values, padded);
  const ByDistance bias(scratch + layout.bias, Distances(in));
  if (in.bias.defined()) bias.Load(in.bias, head, RowsOf::kQueries);
  const float scale = shape.score_scale();
  for (int64_t q0 = 0; q0 < tokens; q0 += kBlock) {
    const int64_t rows = std::min(kBlock, tokens - q0);
    LoadRows(query.Row(q0), query.stride, rows, dim, scale, queries, padded);
    const SeenKeys seen(shape, existing, b, q0, rows);
    const int64_t begin = seen.Begin(kBlock);
    Running running(rows);
    if (seen.empty(kBlock)) std::fill_n(sum, rows * padded, 0.0f);
    for (int64_t k0 = begin; k0 < seen.most; k0 += kBlock) {
      const int64_t columns = std::min(kBlock, seen.most - k0);
      gemm.block(rows, PadColumns(columns), dim, {queries, padded, 1}, keys + k0 * dim, kBlock, weights, kBlock, false);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t first = seen.From(r, k0, columns), valid = seen.Of(r, k0, columns);
        float* row = weights + r * kBlock;
        if (in.bias.defined()) bias.AddTo(row, 1.0f, shape.tokens.Position(q0 + r), shape.keys(), k0, valid);
        UpdateRow(row, 1.0f, first, valid, columns, running, r, sum + r * padded, padded);
        if (dropout.probability > 0) {
          float buffer[AttentionDropoutBuffer(kBlock)];
          const float* factors = AttentionDropoutFactors(shape, dropout, b, head, q0 + r, k0, valid, buffer);
          for (int64_t k = 0; k < valid; ++k) row[k] *= factors[k];
        }
      }
      gemm.block(rows, padded, columns, {weights, kBlock, 1}, values + k0 * padded, padded, sum, padded, k0 > begin);
    }
    StoreQueries(running, sum, padded, rows, dim, output.Row(q0), output.stride,
                 log_sum_exp + (b * shape.heads + head) * tokens + q0);
  }
}

}  // namespace

void Attention(const CpuContext& cpu, const AttentionHeads& in, const AttentionShape& shape,
               const AttentionDropout& dropout, const Tensor& out, const Tensor& log_sum_exp) {
  if (out.elements() == 0) return;
  if (shape.tokens.tokens() == 1 && dropout.probability == 0) {
    return AttentionOfOneQuery(cpu, in, shape, out, log_sum_exp);
  }
  if (cpu.bf16 != nullptr && out.dtype() == DType::kBFloat16) {
    return AttentionBf16(cpu, in, shape, dropout, out, log_sum_exp);
  }
  const Layout layout(shape, Distances(in));
  WithType(out.dtype(), [&](auto type) {
    ParallelTasks(cpu, shape.batch * shape.heads, layout.total, [&](int64_t task, float* scratch) {
      Head<decltype(type)>(*cpu.gemm, in, shape, dropout, task / shape.heads, task % shape.heads, layout, scratch,
                           {out, 0}, log_sum_exp.data<float>());
    });
  });
}

}  // namespace trefoil::cpu
