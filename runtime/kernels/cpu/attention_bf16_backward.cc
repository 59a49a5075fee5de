#include "runtime/kernels/cpu/attention_bf16.h"

namespace trefoil::cpu {
namespace {

// Scores are transposed: a row is a key, so that the weights and their gradients are left operands as they come out.
//
//   s^T = k q^T    d_weights^T = v d_out^T    weights = exp(scale s - log_sum_exp)
//   d_scores = weights * (d_weights - delta)  (Dao et al. 2022, appendix B.4)
//   d_v += weights^T d_out    d_k += scale d_scores^T q    d_q^T += scale k^T d_scores^T
struct Layout : Bf16Layout {
  Layout(const AttentionShape& s, int64_t distances) : Bf16Layout(s) {
    const int64_t rows = s.keys().tokens();
    keys_t = TakeBf16(Blocks(rows, kKeyBlock) * kKeyBlock * padded);
    for (int64_t* offset : {&keys, &values}) *offset = TakeBf16(RowsFit(rows, s.head_dim) ? 0 : key_tokens * padded);
    for (int64_t* offset : {&d_keys, &d_values}) *offset = Take(key_tokens * padded);
    for (int64_t* offset : {&queries, &d_out, &queries_t, &d_out_t}) *offset = TakeBf16(kBlock * padded);
    d_queries_t = Take(padded * kBlock);
    for (int64_t* offset : {&scores, &d_weights, &factors}) *offset = Take(kKeyBlock * kBlock);
    for (int64_t* offset : {&weights, &d_scores, &d_scores_packed}) *offset = TakeBf16(kKeyBlock * kBlock);
    bias = Take(distances);
  }
  int64_t keys_t;                      // per key block [padded, kKeyBlock]
  int64_t keys, values;                // [Tk, padded]
  int64_t d_keys, d_values;            // [Tk, padded], fp32
  int64_t queries, d_out;              // packed [kBlock / 2, padded]
  int64_t queries_t, d_out_t;          // packed [padded / 2, kBlock]
  int64_t d_queries_t;                 // [padded, kBlock], fp32
  int64_t scores, d_weights, factors;  // [kKeyBlock, kBlock], fp32
  int64_t weights, d_scores;           // [kKeyBlock, kBlock]
  int64_t d_scores_packed;             // packed [kKeyBlock / 2, kBlock]
  int64_t bias;                        // [R]
};

using Arguments = BackwardArguments<Bf16Kernel, Layout>;

// One key against the queries [first, rows) of a block, of which there may be none; zeros for the others up to kBlock.
// kKeep: d_scores stay in d_weights as well, in fp32.
template <bool kDropout, bool kKeep>
void KeyRow(const float* scores, float* d_weights, const float* log_sum_exp, const float* delta,
            const float* factors, float scale, int64_t first, int64_t rows, BFloat16* weights, BFloat16* d_scores) {
  for (BFloat16* out : {weights, d_scores}) {
    std::fill_n(out, first, BFloat16(0.0f));
    std::fill_n(out + rows, kBlock - rows, BFloat16(0.0f));
  }
#pragma omp simd
  for (int64_t r = first; r < rows; ++r) {
    const float weight = Exp(scores[r] * scale - log_sum_exp[r]);
    const float factor = kDropout ? factors[r] : 1.0f;
    Store(weights[r], weight * factor);
    const float d_score = weight * (d_weights[r] * factor - delta[r]);
    Store(d_scores[r], d_score);
    if (kKeep) d_weights[r] = d_score;
  }
}

// The factors of the weights of a block, a row for each key: [kKeyBlock, kBlock], where the query sees the key.
void TransposedFactors(const Arguments& a, const SeenKeys& seen, int64_t b, int64_t head, int64_t q0, int64_t rows,
                       int64_t k0, int64_t columns, float* to) {
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t valid = seen.Of(r, k0, columns);
    float buffer[AttentionDropoutBuffer(kKeyBlock)];
    const float* factors = AttentionDropoutFactors(a.shape, a.dropout, b, head, q0 + r, k0, valid, buffer);
    for (int64_t k = 0; k < valid; ++k) to[k * kBlock + r] = factors[k];
  }
}

// The part of one query head: writes d_query, adds to d_keys and d_values. keys_t is in scratch.
void QueryHead(const Arguments& a, const LeftRows& keys, const LeftRows& values, int64_t b, int64_t head,
               float* scratch) {
  const AttentionShape& shape = a.shape;
  const Layout& layout = a.layout;
  const int64_t tokens = shape.tokens.tokens(), existing = ExistingKeys(shape, b);
  const int64_t dim = shape.head_dim, padded = layout.padded;
  const HeadRows<BFloat16> query(a.in.q, b, tokens, head, dim), output({a.out, 0}, b, tokens, head, dim),
      d_output({a.d_out, 0}, b, tokens, head, dim);
  const HeadGradient d_query = {a.gradients.q, b, tokens, head, dim, a.add};
  const auto narrow = [=](int64_t offset) { return reinterpret_cast<BFloat16*>(scratch + offset); };
  const auto packed = [=](int64_t offset) { return reinterpret_cast<Bf16Pair*>(scratch + offset); };
  const BFloat16* keys_t = narrow(layout.keys_t);
  Bf16Pair *queries = packed(layout.queries), *queries_t = packed(layout.queries_t);
  Bf16Pair *d_out = packed(layout.d_out), *d_out_t = packed(layout.d_out_t);
  Bf16Pair* d_scores_packed = packed(layout.d_scores_packed);
  BFloat16 *weights = narrow(layout.weights), *d_scores = narrow(layout.d_scores);
  float *scores = scratch + layout.scores, *d_weights = scratch + layout.d_weights, *factors = scratch + layout.factors;
  float *d_queries_t = scratch + layout.d_queries_t, *d_keys = scratch + layout.d_keys;
  float* d_values = scratch + layout.d_values;
  const ByDistance bias(scratch + layout.bias, Distances(a.in)), d_bias = a.d_bias.StartPart(b, head);
  const bool drops = a.dropout.probability > 0, biased = a.in.bias.defined(), keeps = a.d_bias.wanted();
  if (biased) bias.Load(a.in.bias, head, RowsOf::kKeys);
  const float scale = shape.score_scale(), left_to_do = biased ? 1.0f : scale;
  for (int64_t q0 = 0; q0 < tokens; q0 += kBlock) {
    const int64_t rows = std::min(kBlock, tokens - q0), padded_rows = PadBf16(rows);
    PackRows(query.Row(q0), query.stride, rows, dim, queries, padded);
    PackRows(d_output.Row(q0), d_output.stride, rows, dim, d_out, padded);
    PackTransposed(query.Row(q0), query.stride, rows, dim, queries_t, kBlock);
    PackTransposed(d_output.Row(q0), d_output.stride, rows, dim, d_out_t, kBlock);
    const float* log_sum_exp = a.log_sum_exp.data<float>() + (b * shape.heads + head) * tokens + q0;
    float delta[kBlock];
    for (int64_t r = 0; r < rows; ++r) {
      const BFloat16 *x = output.Row(q0 + r), *y = d_output.Row(q0 + r);
      delta[r] = SumLanes<float>(dim, [=](int64_t d) { return static_cast<float>(x[d]) * static_cast<float>(y[d]); });
    }
    const SeenKeys seen(shape, existing, b, q0, rows);
    const int64_t begin = seen.Begin(kKeyBlock);
    if (seen.empty(kKeyBlock)) std::fill_n(d_queries_t, dim * kBlock, 0.0f);
    for (int64_t k0 = begin; k0 < seen.most; k0 += kKeyBlock) {
      const int64_t columns = std::min(kKeyBlock, seen.most - k0), wide = PadBf16(columns);
      a.kernel.block(wide, padded_rows, padded, keys.data + k0 * keys.stride, keys.stride, queries_t, kBlock, scores,
                     kBlock, false);
      a.kernel.block(wide, padded_rows, padded, values.data + k0 * values.stride, values.stride, d_out_t, kBlock,
                     d_weights, kBlock, false);
      if (drops) TransposedFactors(a, seen, b, head, q0, rows, k0, columns, factors);
      int64_t first = 0, end = 0;  // queries that see a key; none sees those from `columns` on
      for (int64_t k = 0; k < wide; ++k) {
        while (first < rows && seen.of[first] <= k0 + k) ++first;
        while (end < rows && seen.from[end] <= k0 + k) ++end;
        const int64_t at = k * kBlock, last = std::max(first, end);
        const int64_t position = shape.keys().Position(k0 + k);
        if (biased) bias.AddTo(scores + at + first, scale, position, shape.tokens, q0 + first, last - first);
        (drops ? keeps ? KeyRow<true, true> : KeyRow<true, false>
               : keeps ? KeyRow<false, true> : KeyRow<false, false>)(
            scores + at, d_weights + at, log_sum_exp, delta, factors + at, left_to_do, first, last, weights + at,
            d_scores + at);
        if (keeps) d_bias.Add(d_weights + at + first, position, shape.tokens, q0 + first, last - first);
      }
      a.kernel.block(wide, padded, padded_rows, weights, kBlock, d_out, padded, d_values + k0 * padded, padded, true);
      a.kernel.block(wide, padded, padded_rows, d_scores, kBlock, queries, padded, d_keys + k0 * padded, padded, true);
      PackRows(d_scores, kBlock, wide, padded_rows, d_scores_packed, kBlock);
      a.kernel.block(padded, padded_rows, wide, keys_t + k0 * padded, kKeyBlock, d_scores_packed, kBlock, d_queries_t,
                     kBlock, k0 > begin);
    }
    d_query.Write(q0, rows, [=](int64_t r, int64_t d) { return d_queries_t[d * kBlock + r] * scale; });
  }
}

// One key/value head with the query heads that attend to it, in order.
void KeyHead(const Arguments& a, int64_t b, int64_t kv_head, float* scratch) {
  const AttentionShape& shape = a.shape;
  const Layout& layout = a.layout;
  const int64_t tokens = shape.keys().tokens(), existing = ExistingKeys(shape, b);
  const int64_t dim = shape.head_dim, padded = layout.padded;
  const HeadRows<BFloat16> key(a.in.k, b, tokens, kv_head, dim), value(a.in.v, b, tokens, kv_head, dim);
  const auto narrow = [=](int64_t offset) { return reinterpret_cast<BFloat16*>(scratch + offset); };
  const LeftRows keys = Left(key, tokens, dim, narrow(layout.keys));
  const LeftRows values = Left(value, tokens, dim, narrow(layout.values));
  for (int64_t k0 = 0; k0 < existing; k0 += kKeyBlock) {
    // Rows of keys_t from D on give rows of d_queries_t that are not read.
    LoadTransposed(key.Row(k0), key.stride, std::min(kKeyBlock, existing - k0), dim,
                   narrow(layout.keys_t) + k0 * padded, kKeyBlock);
  }
  float *d_keys = scratch + layout.d_keys, *d_values = scratch + layout.d_values;
  for (float* sum : {d_keys, d_values}) std::fill_n(sum, layout.key_tokens * padded, 0.0f);
  const int64_t group = shape.heads / shape.kv_heads;
  const Bf16Work work(a.kernel);
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    QueryHead(a, keys, values, b, head, scratch);
  }
  const float scale = shape.score_scale();
  HeadGradient{a.gradients.k, b, tokens, kv_head, dim, a.add}.Write(0, tokens, d_keys, padded, scale);
  HeadGradient{a.gradients.v, b, tokens, kv_head, dim, a.add}.Write(0, tokens, d_values, padded, 1.0f);
}

}  // namespace

void AttentionBackwardBf16(const CpuContext& cpu, const Tensor& d_out, const AttentionHeads& in, const Tensor& out,
                           const Tensor& log_sum_exp, const AttentionShape& shape, const AttentionDropout& dropout,
                           const AttentionHeads& gradients, Accumulate accumulate) {
  const Layout layout(shape, Distances(in));
  const BiasGradient d_bias(cpu, shape, gradients.bias, RowsOf::kKeys);
  const Arguments arguments = {*cpu.bf16, d_out,   in,        out, log_sum_exp,
                               shape,     dropout, gradients, accumulate == Accumulate::kYes, layout, d_bias};
  ParallelTasks(cpu, shape.batch * shape.kv_heads, layout.total, [&](int64_t task, float* scratch) {
    KeyHead(arguments, task / shape.kv_heads, task % shape.kv_heads, scratch);
  });
  d_bias.AddParts();
}

}  // namespace trefoil::cpu
