#include "runtime/kernels/cpu/attention.h"
#include "runtime/kernels/cpu/attention_bf16.h"

namespace trefoil::cpu {
namespace {

struct Layout : ScratchLayout {
  Layout(const AttentionShape& s, int64_t distances) : padded(PadColumns(s.head_dim)) {
    const int64_t tokens = Blocks(s.keys().tokens(), kBlock) * kBlock;
    for (int64_t* offset : {&keys_t, &values_t}) *offset = Take(tokens * s.head_dim);
    for (int64_t* offset : {&keys, &d_keys, &d_values}) *offset = Take(tokens * padded);
    for (int64_t* offset : {&queries, &d_out, &d_queries}) *offset = Take(kBlock * padded);
    for (int64_t* offset : {&weights, &d_weights}) *offset = Take(kBlock * kBlock);
    bias = Take(distances);
  }
  int64_t padded;
  int64_t keys_t, values_t;           // per key block [D, kBlock]
  int64_t keys, d_keys, d_values;     // [Tk, padded]
  int64_t queries, d_out, d_queries;  // [kBlock, padded]
  int64_t weights, d_weights;         // [kBlock, kBlock]
  int64_t bias;                       // [R]
};

// One row of scores s and of d_out v^T becomes the weights p (dropped-out, for d_values) and
// d_scores = p * (d_weight - delta), of the keys [first, valid), and zeros for the others; Dao et al. 2022, appendix
// B.4.
void ScoresRow(float* scores, float* d_weights, int64_t first, int64_t valid, int64_t columns, float log_sum_exp,
               float delta, const float* factors) {
  for (int64_t k = 0; k < first; ++k) scores[k] = d_weights[k] = 0;
  if (factors == nullptr) {
#pragma omp simd
    for (int64_t k = first; k < valid; ++k) {
      const float weight = Exp(scores[k] - log_sum_exp);
      scores[k] = weight;
      d_weights[k] = weight * (d_weights[k] - delta);
    }
  } else {
#pragma omp simd
    for (int64_t k = first; k < valid; ++k) {
      const float weight = Exp(scores[k] - log_sum_exp);
      scores[k] = weight * factors[k];
      d_weights[k] = weight * (d_weights[k] * factors[k] - delta);
    }
  }
  for (int64_t k = valid; k < columns; ++k) scores[k] = d_weights[k] = 0;
}

using Arguments = BackwardArguments<GemmKernel, Layout>;

// The part of one query head: writes d_query, adds to d_keys and d_values. The keys are in scratch.
template <typename T>
void QueryHead(const Arguments& a, int64_t b, int64_t head, float* scratch) {
  const AttentionShape& shape = a.shape;
  const Layout& layout = a.layout;
  const GemmKernel& gemm = a.kernel;
  const int64_t tokens = shape.tokens.tokens(), existing = ExistingKeys(shape, b);
  const int64_t dim = shape.head_dim, padded = layout.padded;
  const HeadRows<T> query(a.in.q, b, tokens, head, dim), output({a.out, 0}, b, tokens, head, dim),
      d_output({a.d_out, 0}, b, tokens, head, dim);
  const HeadGradient d_query = {a.gradients.q, b, tokens, head, dim, a.add};
  const float *keys_t = scratch + layout.keys_t, *values_t = scratch + layout.values_t, *keys = scratch + layout.keys;
  float *queries = scratch + layout.queries, *d_out = scratch + layout.d_out;
  float *weights = scratch + layout.weights, *d_weights = scratch + layout.d_weights;
  float *d_queries = scratch + layout.d_queries, *d_keys = scratch + layout.d_keys;
  float* d_values = scratch + layout.d_values;
  const float* log_sum_exp = a.log_sum_exp.data<float>() + (b * shape.heads + head) * tokens;
  const ByDistance bias(scratch + layout.bias, Distances(a.in)), d_bias = a.d_bias.StartPart(b, head);
  if (a.in.bias.defined()) bias.Load(a.in.bias, head, RowsOf::kQueries);
  const float scale = shape.score_scale();
  for (int64_t q0 = 0; q0 < tokens; q0 += kBlock) {
    const int64_t rows = std::min(kBlock, tokens - q0);
    LoadRows(query.Row(q0), query.stride, rows, dim, scale, queries, padded);
    LoadRows(d_output.Row(q0), d_output.stride, rows, dim, 1.0f, d_out, padded);
    float delta[kBlock];
    for (int64_t r = 0; r < rows; ++r) {
      const T* out = output.Row(q0 + r);
      const float* d_row = d_out + r * padded;
      delta[r] = SumLanes<float>(dim, [=](int64_t d) { return static_cast<float>(out[d]) * d_row[d]; });
    }
    const SeenKeys seen(shape, existing, b, q0, rows);
    const int64_t begin = seen.Begin(kBlock);
    if (seen.empty(kBlock)) std::fill_n(d_queries, rows * padded, 0.0f);
    for (int64_t k0 = begin; k0 < seen.most; k0 += kBlock) {
      const int64_t columns = std::min(kBlock, seen.most - k0), wide = PadColumns(columns);
      gemm.block(rows, wide, dim, {queries, padded, 1}, keys_t + k0 * dim, kBlock, weights, kBlock, false);
      gemm.block(rows, wide, dim, {d_out, padded, 1}, values_t + k0 * dim, kBlock, d_weights, kBlock, false);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t first = seen.From(r, k0, columns), valid = seen.Of(r, k0, columns);
        const int64_t position = shape.tokens.Position(q0 + r);
        float *row = weights + r * kBlock, *d_row = d_weights + r * kBlock;
        float buffer[AttentionDropoutBuffer(kBlock)];
        const float* factors = nullptr;
        if (a.dropout.probability > 0) {
          factors = AttentionDropoutFactors(shape, a.dropout, b, head, q0 + r, k0, valid, buffer);
        }
        if (a.in.bias.defined()) bias.AddTo(row, 1.0f, position, shape.keys(), k0, valid);
        ScoresRow(row, d_row, first, valid, columns, log_sum_exp[q0 + r], delta[r], factors);
        if (a.d_bias.wanted()) d_bias.Add(d_row, position, shape.keys(), k0, valid);
      }
      gemm.block(columns, padded, rows, {weights, 1, kBlock}, d_out, padded, d_values + k0 * padded, padded, true);
      gemm.block(columns, padded, rows, {d_weights, 1, kBlock}, queries, padded, d_keys + k0 * padded, padded, true);
      gemm.block(rows, padded, columns, {d_weights, kBlock, 1}, keys + k0 * padded, padded, d_queries, padded,
                 k0 > begin);
    }
    d_query.Write(q0, rows, d_queries, padded, scale);
  }
}

// One key/value head with the query heads that attend to it, in order.
template <typename T>
void KeyHead(const Arguments& a, int64_t b, int64_t kv_head, float* scratch) {
  const AttentionShape& shape = a.shape;
  const Layout& layout = a.layout;
  const int64_t tokens = shape.keys().tokens(), existing = ExistingKeys(shape, b);
  const int64_t dim = shape.head_dim, padded = layout.padded;
  const HeadRows<T> key(a.in.k, b, tokens, kv_head, dim), value(a.in.v, b, tokens, kv_head, dim);
  for (int64_t k0 = 0; k0 < existing; k0 += kBlock) {
    const int64_t rows = std::min(kBlock, existing - k0);
    LoadTransposed(key.Row(k0), key.stride, rows, dim, scratch + layout.keys_t + k0 * dim, kBlock);
    LoadTransposed(value.Row(k0), value.stride, rows, dim, scratch + layout.values_t + k0 * dim, kBlock);
  }
  LoadRows(key.data, key.stride, existing, dim, 1.0f, scratch + layout.keys, padded);
  float *d_keys = scratch + layout.d_keys, *d_values = scratch + layout.d_values;
  for (float* sum : {d_keys, d_values}) std::fill_n(sum, tokens * padded, 0.0f);
  const int64_t group = shape.heads / shape.kv_heads;
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) QueryHead<T>(a, b, head, scratch);
  HeadGradient{a.gradients.k, b, tokens, kv_head, dim, a.add}.Write(0, tokens, d_keys, padded, 1.0f);
  HeadGradient{a.gradients.v, b, tokens, kv_head, dim, a.add}.Write(0, tokens, d_values, padded, 1.0f);
}

}  // namespace

void AttentionBackward(const CpuContext& cpu, const Tensor& d_out, const AttentionHeads& in, const Tensor& out,
                       const Tensor& log_sum_exp, const AttentionShape& shape, const AttentionDropout& dropout,
                       const AttentionHeads& gradients, Accumulate accumulate) {
  if (shape.batch == 0) return;
  if (cpu.bf16 != nullptr && out.dtype() == DType::kBFloat16) {
    return AttentionBackwardBf16(cpu, d_out, in, out, log_sum_exp, shape, dropout, gradients, accumulate);
  }
  const Layout layout(shape, Distances(in));
  const BiasGradient d_bias(cpu, shape, gradients.bias, RowsOf::kQueries);
  const Arguments arguments = {*cpu.gemm, d_out,   in,        out, log_sum_exp,
                               shape,     dropout, gradients, accumulate == Accumulate::kYes, layout, d_bias};
  WithType(out.dtype(), [&](auto type) {
    ParallelTasks(cpu, shape.batch * shape.kv_heads, layout.total, [&](int64_t task, float* scratch) {
      KeyHead<decltype(type)>(arguments, task / shape.kv_heads, task % shape.kv_heads, scratch);
    });
  });
  d_bias.AddParts();
}

}  // namespace trefoil::cpu
