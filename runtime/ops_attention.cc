// Attention and what belongs to it.
#include "runtime/op_run.h"
#include "runtime/ops.h"

namespace trefoil {
namespace {

double CheckAllHeads(const AttentionHeads& x, DType dtype, const AttentionShape& s) {
  const int64_t keys = s.batch * s.keys().tokens();
  return CheckHeads("q", x.q, dtype, s.batch * s.tokens.tokens(), s.heads, s.head_dim) +
         CheckHeads("k", x.k, dtype, keys, s.kv_heads, s.head_dim) +
         CheckHeads("v", x.v, dtype, keys, s.kv_heads, s.head_dim);
}

// That it has a row for every distance at which a query can see a key.
void CheckBias(const Tensor& bias, DType dtype, const AttentionShape& s) {
  CheckActivation("bias", bias, 2);
  Check("bias", bias, dtype, {bias.dim(0), s.heads});
  CHECK_EQ(bias.dim(0) % 2, 1) << "bias has a row for distance 0 and as many on either side";
  const int64_t queries = s.tokens.tokens(), keys = s.keys().tokens();
  if (queries == 0 || keys == 0) return;
  const int64_t before = s.tokens.Position(queries - 1) - s.keys().Position(0);
  const int64_t after = s.causal ? 0 : s.keys().Position(keys - 1) - s.tokens.Position(0);
  CHECK_LE(std::max(before, after), bias.dim(0) / 2) << "bias: distances beyond its " << bias.dim(0) << " rows";
}

// All but the gradients. Returns the bytes of q, k and v.
double CheckAttention(const AttentionHeads& in, const AttentionShape& s, const AttentionDropout& dropout,
                      const Tensor& out, const Tensor& log_sum_exp) {
  CHECK_GT(s.heads, 0);
  CHECK_GT(s.kv_heads, 0);
  CHECK_GT(s.head_dim, 0);
  CHECK_EQ(s.heads % s.kv_heads, 0) << "query heads must be a multiple of key/value heads";
  CHECK_GE(s.window, 0);
  CHECK(s.causal || s.window == 0) << "a window of attention that is not causal";
  CheckProbability(dropout.probability);
  if (dropout.probability > 0) {
    CHECK_LE(dropout.first_head + s.heads, dropout.global_heads);
    const int64_t queries = s.tokens.tokens(), keys = s.keys().tokens();
    if (queries > 0) CHECK_LT(s.tokens.Position(queries - 1), dropout.global_queries);
    if (keys > 0) CHECK_LT(s.keys().Position(keys - 1), dropout.global_keys);
  }
  const DType dtype = in.q.rows.dtype();
  Check("out", out, dtype, {s.batch * s.tokens.tokens(), s.heads * s.head_dim});
  Check("log_sum_exp", log_sum_exp, kFloat, {s.batch, s.heads, s.tokens.tokens()});
  if (s.lengths.defined()) Check("lengths", s.lengths, DType::kInt32, {s.batch});
  if (s.starts.defined()) Check("starts", s.starts, DType::kInt32, {s.batch * s.tokens.tokens()});
  if (in.bias.defined()) CheckBias(in.bias, dtype, s);
  return CheckAllHeads(in, dtype, s);
}

// The area below the diagonal: of x in [0, size), y below x.
double Triangle(int64_t size) { return size <= 0 ? 0 : 0.5 * static_cast<double>(size) * static_cast<double>(size); }

// Pairs of a query and a key at its position or before, were the queries `later` positions later.
double CausalPairs(const TokenRange& q, const TokenRange& k, int64_t later) {
  const int64_t q_first = q.first + later, q_end = q_first + q.tokens, k_end = k.first + k.tokens;
  return Triangle(q_end - k.first) - Triangle(q_end - k_end) - Triangle(q_first - k.first) + Triangle(q_first - k_end);
}

// Pairs of a query and a key that attend to each other; of a range with itself half of its square.
double Pairs(const AttentionShape& s) {
  double pairs = 0;
  for (int i = 0; i < TokenRanges::kMost; ++i) {
    const TokenRange q = s.tokens[i];
    for (int j = 0; j < TokenRanges::kMost; ++j) {
      const TokenRange k = s.keys()[j];
      pairs += s.causal ? CausalPairs(q, k, 0) : static_cast<double>(q.tokens) * static_cast<double>(k.tokens);
      if (s.window > 0) pairs -= CausalPairs(q, k, -s.window);
    }
  }
  return pairs;
}

// Operations of q k^T or p v of all heads.
double Product(const AttentionShape& s) { return 2.0 * static_cast<double>(s.batch * s.heads * s.head_dim) * Pairs(s); }

}  // namespace

void Rotary(Device& device, const HeadColumns& x, int64_t heads, int64_t head_dim, const TokenRanges& tokens,
            const RotaryFrequencies& frequencies, bool inverse) {
  const double bytes = CheckHeads("x", x, x.rows.dtype(), x.rows.dim(0), heads, head_dim);
  CHECK_EQ(head_dim % 2, 0) << "rotary needs an even head dim";
  CHECK_GT(frequencies.theta, 0);
  if (x.rows.dim(0) > 0) CHECK_EQ(x.rows.dim(0) % tokens.tokens(), 0) << "rows must be whole samples";
  Run(device, "rotary", 3.0 * static_cast<double>(x.rows.dim(0) * heads * head_dim), {2 * bytes, x.rows.dtype()},
      [&](Kernels& kernels) { kernels.Rotary(x, heads, head_dim, tokens, frequencies, inverse); });
}

void Attention(Device& device, const AttentionHeads& in, const AttentionShape& shape, const AttentionDropout& dropout,
               const Tensor& out, const Tensor& log_sum_exp) {
  const double bytes = CheckAttention(in, shape, dropout, out, log_sum_exp);
  Run(device, "attention", 2 * Product(shape),
      Bytes({&out, &log_sum_exp, &shape.lengths, &shape.starts, &in.bias}) + bytes,
      [&](Kernels& kernels) { kernels.Attention(in, shape, dropout, out, log_sum_exp); });
}

void AttentionBackward(Device& device, const Tensor& d_out, const AttentionHeads& in, const Tensor& out,
                       const Tensor& log_sum_exp, const AttentionShape& shape, const AttentionDropout& dropout,
                       const AttentionHeads& gradients, Accumulate accumulate) {
  const double bytes = CheckAttention(in, shape, dropout, out, log_sum_exp);
  Check("d_out", d_out, out.dtype(), out.shape());
  const bool add = accumulate == Accumulate::kYes;
  const DType dtype = gradients.q.rows.dtype();
  CHECK(dtype == kFloat || (dtype == out.dtype() && !add)) << "gradients in " << Name(dtype);
  const double written = CheckAllHeads(gradients, dtype, shape);
  if (gradients.bias.defined()) {
    CHECK(in.bias.defined()) << "a gradient of no bias";
    Check("gradients.bias", gradients.bias, kFloat, in.bias.shape());
  }
  Run(device, "attention_backward", 5 * Product(shape),
      Bytes({&d_out, &out, &log_sum_exp, &shape.lengths, &shape.starts, &in.bias, &gradients.bias, &gradients.bias}) +
          (bytes + (add ? 2 : 1) * written),
      [&](Kernels& kernels) {
        kernels.AttentionBackward(d_out, in, out, log_sum_exp, shape, dropout, gradients, accumulate);
      });
}

void MergeAttention(Device& device, const Tensor& out, const Tensor& log_sum_exp, const Tensor& part,
                    const Tensor& part_log_sum_exp) {
  CheckActivation("log_sum_exp", log_sum_exp, 3);
  Check("log_sum_exp", log_sum_exp, kFloat, log_sum_exp.shape());
  Check("part_log_sum_exp", part_log_sum_exp, kFloat, log_sum_exp.shape());
  CheckActivation("out", out, 2);
  CheckActivation("part", part, 2);
  Check("out", out, out.dtype(), {log_sum_exp.dim(0) * log_sum_exp.dim(2), out.dim(1)});
  Check("part", part, part.dtype(), out.shape());
  CHECK_EQ(out.dim(1) % log_sum_exp.dim(1), 0) << "columns must be those of H heads";
  Run(device, "merge_attention", 3.0 * out.elements(),
      Bytes({&out, &out, &part, &log_sum_exp, &log_sum_exp, &part_log_sum_exp}), [&](Kernels& kernels) {
        kernels.MergeAttention(out, log_sum_exp, part, part_log_sum_exp);
      });
}

}  // namespace trefoil
