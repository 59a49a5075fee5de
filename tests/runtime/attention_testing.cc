#include "tests/runtime/attention_testing.h"

#include <cmath>
#include <sstream>

#include "runtime/kernels/cpu/bf16_block.h"
#include "runtime/kernels/cpu/cpu.h"
#include "runtime/random.h"

namespace trefoil {
namespace {

struct Operands {
  Values q, k, v, d_out;  // [B*Tq, H*D], [B*Tk, K*D] twice, [B*Tq, H*D]
  Values bias;            // [R, H]
};
struct Reference {
  Values out, log_sum_exp, d_q, d_k, d_v, d_bias;
};

// Where the document of a position begins.
int64_t StartOf(const AttentionCase& c, int64_t b, int64_t position) {
  int64_t start = 0;
  for (const int64_t begin : c.documents) start = begin + 3 * b <= position ? begin + 3 * b : start;
  return start;
}

// Straight from softmax(scale q k^T + bias) v and its chain rule, Tq x Tk at a time.
Reference NaiveAttention(const AttentionCase& c, const Operands& x) {
  const AttentionShape& s = c.shape;
  const std::vector<int64_t> queries = PositionsOf(s.tokens), keys = PositionsOf(s.keys());
  const auto tq = static_cast<int64_t>(queries.size()), tk = static_cast<int64_t>(keys.size());
  const int64_t dim = s.head_dim;
  Reference r = {Values(x.q.size()), Values(s.batch * s.heads * tq), Values(x.q.size()), Values(x.k.size()),
                 Values(x.v.size()), Values(x.bias.size())};
  const double scale = s.scale != 0 ? s.scale : 1 / std::sqrt(static_cast<double>(dim)),
               kept = 1 / (1 - static_cast<double>(c.dropout.probability));
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const auto q_at = [&](int64_t t) { return ((b * tq + t) * s.heads + h) * dim; };
      const auto k_at = [&](int64_t u) { return ((b * tk + u) * s.kv_heads + h / (s.heads / s.kv_heads)) * dim; };
      for (int64_t t = 0; t < tq; ++t) {
        const auto bias_at = [&](int64_t u) { return (keys[u] - queries[t] + (c.distances - 1) / 2) * s.heads + h; };
        Values p(tk), mask(tk, 1), d_weight(tk);
        double sum = 0;
        for (int64_t u = 0; u < tk; ++u) {
          if (s.causal && keys[u] > queries[t]) continue;
          if (s.window > 0 && keys[u] <= queries[t] - s.window) continue;
          if (!c.lengths.empty() && keys[u] >= c.lengths[b]) continue;
          if (keys[u] < StartOf(c, b, queries[t])) continue;
          double score = c.distances > 0 ? x.bias[bias_at(u)] : 0;
          for (int64_t d = 0; d < dim; ++d) score += x.q[q_at(t) + d] * x.k[k_at(u) + d] * scale;
          p[u] = std::exp(score);
          sum += p[u];
          if (c.dropout.probability > 0) {
            const int64_t head = (c.dropout.first_sequence + b) * c.dropout.global_heads + c.dropout.first_head + h;
            const int64_t element = (head * c.dropout.global_queries + queries[t]) * c.dropout.global_keys + keys[u];
            mask[u] = Uniform(c.dropout.key, static_cast<uint64_t>(element)) < c.dropout.probability ? 0 : kept;
          }
        }
        r.log_sum_exp[(b * s.heads + h) * tq + t] = std::log(sum);
        if (sum == 0) continue;
        double inner = 0;
        for (int64_t u = 0; u < tk; ++u) {
          p[u] /= sum;
          for (int64_t d = 0; d < dim; ++d) {
            r.out[q_at(t) + d] += p[u] * mask[u] * x.v[k_at(u) + d];
            d_weight[u] += mask[u] * x.d_out[q_at(t) + d] * x.v[k_at(u) + d];
            r.d_v[k_at(u) + d] += p[u] * mask[u] * x.d_out[q_at(t) + d];
          }
          inner += p[u] * d_weight[u];
        }
        for (int64_t u = 0; u < tk; ++u) {
          const double d_score = p[u] * (d_weight[u] - inner);
          if (c.distances > 0 && p[u] > 0) r.d_bias[bias_at(u)] += d_score;
          for (int64_t d = 0; d < dim; ++d) {
            r.d_q[q_at(t) + d] += d_score * scale * x.k[k_at(u) + d];
            r.d_k[k_at(u) + d] += d_score * scale * x.q[q_at(t) + d];
          }
        }
      }
    }
  }
  return r;
}

// Columns [first, first + count) of each row.
Values Columns(const Values& x, int64_t columns, int64_t first, int64_t count) {
  Values part;
  for (size_t row = 0; row < x.size(); row += columns) {
    part.insert(part.end(), x.begin() + row + first, x.begin() + row + first + count);
  }
  return part;
}
// Of heads in a matrix.
Values Get(Device& device, const HeadColumns& x, int64_t heads, int64_t head_dim) {
  return Columns(Get(device, x.rows), x.rows.dim(1), x.first, heads * head_dim);
}

std::string Text(const AttentionCase& c) {
  const AttentionShape& s = c.shape;
  std::ostringstream text;
  text << "B " << s.batch << " Tq " << s.tokens.tokens() << " from " << s.tokens[0].first << " Tk "
       << s.keys().tokens() << " H " << s.heads << " K " << s.kv_heads << " D " << s.head_dim
       << (s.causal ? " causal" : "") << " window " << s.window << " scale " << s.scale << " dropout " << c.dropout.probability << " lengths";
  for (const int32_t length : c.lengths) text << " " << length;
  text << " documents";
  for (const int64_t begin : c.documents) text << " " << begin;
  text << " bias of " << c.distances << ", bf16 by " << (c.bf16 == nullptr ? "the device's choice" : c.bf16->name)
       << ", gradients in " << Name(c.gradient_dtype);
  return text.str();
}

}  // namespace

AttentionShape Ranged(int64_t batch, TokenRanges tokens, int64_t heads, int64_t kv_heads, int64_t head_dim,
                      std::optional<TokenRanges> keys, bool causal) {
  return {batch, tokens, heads, kv_heads, head_dim, keys, causal};
}

std::vector<int64_t> PositionsOf(const TokenRanges& tokens) {
  std::vector<int64_t> positions;
  for (int i = 0; i < TokenRanges::kMost; ++i) {
    for (int64_t t = 0; t < tokens[i].tokens; ++t) positions.push_back(tokens[i].first + t);
  }
  return positions;
}

AttentionDropout SomeDropout(const AttentionShape& s) {
  const int64_t tokens = s.tokens.tokens();
  const bool whole = s.keys() == TokenRanges(tokens) && s.tokens == s.keys();
  return {.probability = 0.3f,
          .key = 99,
          .first_sequence = 3,
          .first_head = 2,
          .global_heads = s.heads + 5,
          .global_queries = whole ? tokens : 256,
          .global_keys = whole ? tokens : 300};
}

AttentionHeads RandomHeads(Device& device, DType dtype, const AttentionShape& s, uint64_t seed) {
  const int64_t queries = s.batch * s.tokens.tokens(), keys = s.batch * s.keys().tokens(), other = 8;
  if (!s.key_tokens.has_value()) return FusedHeads(Random(device, dtype, {queries, s.columns()}, seed), s);
  const Tensor q = Random(device, dtype, {queries, other + s.heads * s.head_dim}, seed);
  const Tensor kv = Random(device, dtype, {keys, other + 2 * s.kv_heads * s.head_dim}, seed + 1);
  return {{q, other}, {kv, other}, {kv, other + s.kv_heads * s.head_dim}};
}

AttentionHeads PoisonedHeads(Device& device, DType dtype, const AttentionHeads& like) {
  const Tensor q = Poisoned(device, dtype, like.q.rows.shape());
  const bool fused = like.q.rows.raw() == like.k.rows.raw();
  const Tensor kv = fused ? q : Poisoned(device, dtype, like.k.rows.shape());
  return {{q, like.q.first}, {kv, like.k.first}, {kv, like.v.first}};
}

void CompareAttention(const AttentionCase& c) {
  SCOPED_TRACE(Text(c));
  constexpr double kBefore = 0.5;  // in the bias's gradient, which is added to
  const DType gradient_dtype = c.dtype == DType::kFloat32 ? c.dtype : c.gradient_dtype;
  const int64_t heads = c.shape.heads, kv_heads = c.shape.kv_heads, dim = c.shape.head_dim;
  Reference reference;
  const auto results = (c.bf16 == nullptr ? RunWithThreads : RunWithCpuThreads)([&](Device& device) {
    AttentionShape s = c.shape;
    if (!c.lengths.empty()) s.lengths = Ids(device, c.lengths);
    if (!c.documents.empty()) {
      std::vector<int32_t> starts;
      for (int64_t b = 0; b < s.batch; ++b) {
        for (const int64_t position : PositionsOf(s.tokens)) {
          starts.push_back(static_cast<int32_t>(StartOf(c, b, position)));
        }
      }
      s.starts = Ids(device, starts);
    }
    AttentionHeads in = RandomHeads(device, c.dtype, s, 1);
    if (c.distances > 0) in.bias = Random(device, c.dtype, {c.distances, heads}, 3);
    const Tensor out = Poisoned(device, c.dtype, {s.batch * s.tokens.tokens(), heads * dim});
    const Tensor sums = Poisoned(device, DType::kFloat32, {s.batch, heads, s.tokens.tokens()});
    const Tensor d_out = Random(device, c.dtype, out.shape(), 2);
    AttentionHeads d = PoisonedHeads(device, gradient_dtype, in);
    if (c.distances > 0) d.bias = From(device, DType::kFloat32, in.bias.shape(), Values(in.bias.elements(), kBefore));
    if (reference.out.empty()) {
      reference = NaiveAttention(c, {Get(device, in.q, heads, dim), Get(device, in.k, kv_heads, dim),
                                     Get(device, in.v, kv_heads, dim), Get(device, d_out),
                                     c.distances > 0 ? Get(device, in.bias) : Values()});
    }
    if (c.bf16 == nullptr) {
      Attention(device, in, s, c.dropout, out, sums);
      AttentionBackward(device, d_out, in, out, sums, s, c.dropout, d);
    } else {
      const cpu::CpuContext context = {.arena = &device.arena(), .threads = device.threads(), .bf16 = c.bf16};
      cpu::Attention(context, in, s, c.dropout, out, sums);
      cpu::AttentionBackward(context, d_out, in, out, sums, s, c.dropout, d, Accumulate::kNo);
    }
    Values gradients = Get(device, d.q, heads, dim);
    for (const HeadColumns& x : {d.k, d.v}) {
      const Values more = Get(device, x, kv_heads, dim);
      gradients.insert(gradients.end(), more.begin(), more.end());
    }
    const Shape all = {static_cast<int64_t>(gradients.size())};
    std::vector<Tensor> tensors = {out, sums, From(device, DType::kFloat32, all, gradients)};
    if (c.distances > 0) tensors.push_back(d.bias);
    return tensors;
  });
  // bf16 instructions take the weights rounded to bf16; other CPUs keep them in fp32.
  const bool rounds = OnGpu() || c.bf16 != nullptr || cpu::BestBf16Kernel() != nullptr;
  const double rounding = rounds && c.dtype == DType::kBFloat16 ? 8e-3 : 0;
  ExpectClose(results[0], reference.out, c.tolerance * (Tolerance(c.dtype) + rounding), "out");
  // Of rows that see nothing -infinity, which is close to nothing.
  Values sums, expected;
  for (size_t i = 0; i < reference.log_sum_exp.size(); ++i) {
    if (std::isinf(reference.log_sum_exp[i])) {
      EXPECT_EQ(results[1][i], reference.log_sum_exp[i]) << i;
    } else {
      sums.push_back(results[1][i]);
      expected.push_back(reference.log_sum_exp[i]);
    }
  }
  ExpectClose(sums, expected, 3e-6, "log_sum_exp");
  // In bf16 the product of d_out and the rounded out does not cancel as it should.
  const double tolerance = c.dtype == DType::kFloat32 ? ToleranceOfInputs(1e-5, 3e-5) : ToleranceOfInputs(3e-2, 0.1);
  for (const Values& more : {reference.d_k, reference.d_v}) {
    reference.d_q.insert(reference.d_q.end(), more.begin(), more.end());
  }
  ExpectClose(results[2], reference.d_q, c.tolerance * tolerance, "d_q, d_k, d_v");
  if (c.distances == 0) return;
  Values d_bias = results[3];
  for (double& value : d_bias) value -= kBefore;
  ExpectClose(d_bias, reference.d_bias, c.tolerance * tolerance, "d_bias");
}

}  // namespace trefoil
