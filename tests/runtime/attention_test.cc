#include "runtime/kernels/cpu/bf16_block.h"
#include "runtime/kernels/cpu/cpu.h"
#include "runtime/random.h"
#include "tests/runtime/ops_testing.h"

namespace trefoil {
namespace {

struct Reference {
  Values out, log_sum_exp, d_qkv;
};

// Straight from softmax(q k^T / sqrt(D)) v and its chain rule, T x T at a time.
Reference NaiveAttention(const AttentionShape& s, const AttentionDropout& dropout, const Values& qkv,
                         const Values& d_out) {
  const int64_t columns = s.columns(), dim = s.head_dim;
  Reference r = {Values(s.batch * s.tokens * s.heads * dim), Values(s.batch * s.heads * s.tokens), Values(qkv.size())};
  const double scale = 1 / std::sqrt(static_cast<double>(dim));
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const int64_t kv = h / (s.heads / s.kv_heads);
      const auto q_at = [&](int64_t t) { return (b * s.tokens + t) * columns + h * dim; };
      const auto k_at = [&](int64_t t) { return (b * s.tokens + t) * columns + (s.heads + kv) * dim; };
      const auto v_at = [&](int64_t t) { return (b * s.tokens + t) * columns + (s.heads + s.kv_heads + kv) * dim; };
      const auto o_at = [&](int64_t t) { return (b * s.tokens + t) * s.heads * dim + h * dim; };
      for (int64_t t = 0; t < s.tokens; ++t) {
        Values p(t + 1), mask(t + 1, 1), d_weight(t + 1);
        double sum = 0;
        for (int64_t u = 0; u <= t; ++u) {
          double score = 0;
          for (int64_t d = 0; d < dim; ++d) score += qkv[q_at(t) + d] * qkv[k_at(u) + d] * scale;
          p[u] = std::exp(score);
          sum += p[u];
          if (dropout.mask.probability > 0) {
            const int64_t sequence = dropout.mask.first_row / s.tokens + b;
            const int64_t element =
                ((sequence * dropout.global_heads + dropout.first_head + h) * s.tokens + t) * s.tokens + u;
            mask[u] = Uniform(dropout.mask.key, static_cast<uint64_t>(element)) < dropout.mask.probability
                          ? 0
                          : 1 / (1 - static_cast<double>(dropout.mask.probability));
          }
        }
        r.log_sum_exp[(b * s.heads + h) * s.tokens + t] = std::log(sum);
        double inner = 0;
        for (int64_t u = 0; u <= t; ++u) {
          p[u] /= sum;
          for (int64_t d = 0; d < dim; ++d) {
            r.out[o_at(t) + d] += p[u] * mask[u] * qkv[v_at(u) + d];
            d_weight[u] += mask[u] * d_out[o_at(t) + d] * qkv[v_at(u) + d];
            r.d_qkv[v_at(u) + d] += p[u] * mask[u] * d_out[o_at(t) + d];
          }
          inner += p[u] * d_weight[u];
        }
        for (int64_t u = 0; u <= t; ++u) {
          const double d_score = p[u] * (d_weight[u] - inner) * scale;
          for (int64_t d = 0; d < dim; ++d) {
            r.d_qkv[q_at(t) + d] += d_score * qkv[k_at(u) + d];
            r.d_qkv[k_at(u) + d] += d_score * qkv[q_at(t) + d];
          }
        }
      }
    }
  }
  return r;
}

const AttentionShape kShapes[] = {
    {2, 5, 2, 2, 8},    {1, 1, 1, 1, 8},   {1, 64, 3, 3, 16}, {2, 65, 4, 2, 32},  {1, 130, 6, 1, 64}, {1, 100, 2, 1, 1},
    {1, 33, 2, 2, 128}, {1, 17, 2, 1, 20}, {0, 9, 2, 2, 8},   {1, 200, 1, 1, 24}, {1, 192, 2, 1, 32},
};

// By the device's kernels or, with `bf16`, by the CPU's with these products of blocks.
void Compare(DType dtype, const AttentionShape& s, const AttentionDropout& dropout,
             const cpu::Bf16Kernel* bf16 = nullptr) {
  SCOPED_TRACE(testing::Message() << "B " << s.batch << " T " << s.tokens << " H " << s.heads << " K " << s.kv_heads
                                  << " D " << s.head_dim << " dropout " << dropout.mask.probability << " bf16 by "
                                  << (bf16 == nullptr ? "the device's choice" : bf16->name));
  const int64_t rows = s.batch * s.tokens;
  Reference reference;
  const auto results = (bf16 == nullptr ? RunWithThreads : RunWithCpuThreads)([&](Device& device) {
    const Tensor qkv = Random(device, dtype, {rows, s.columns()}, 1);
    const Tensor out = Poisoned(device, dtype, {rows, s.heads * s.head_dim});
    const Tensor sums = Poisoned(device, DType::kFloat32, {s.batch, s.heads, s.tokens});
    const Tensor d_out = Random(device, dtype, out.shape(), 2), d_qkv = Poisoned(device, dtype, qkv.shape());
    if (reference.out.empty()) reference = NaiveAttention(s, dropout, Get(device, qkv), Get(device, d_out));
    if (bf16 == nullptr) {
      Attention(device, qkv, s, dropout, out, sums);
      AttentionBackward(device, d_out, qkv, out, sums, s, dropout, d_qkv);
    } else {
      const cpu::CpuContext context = {.arena = &device.arena(), .threads = device.threads(), .bf16 = bf16};
      cpu::Attention(context, qkv, s, dropout, out, sums);
      cpu::AttentionBackward(context, d_out, qkv, out, sums, s, dropout, d_qkv);
    }
    return std::vector<Tensor>{out, sums, d_qkv};
  });
  // bf16 instructions take the weights rounded to bf16; other CPUs keep them in fp32.
  const bool rounds = OnGpu() || bf16 != nullptr || cpu::BestBf16Kernel() != nullptr;
  const double rounding = rounds && dtype == DType::kBFloat16 ? 8e-3 : 0;
  ExpectClose(results[0], reference.out, Tolerance(dtype) + rounding, "out");
  ExpectClose(results[1], reference.log_sum_exp, 3e-6, "log_sum_exp");
  // In bf16 the product of d_out and the rounded out does not cancel as it should.
  const double tolerance = dtype == DType::kFloat32 ? ToleranceOfInputs(1e-5, 3e-5) : ToleranceOfInputs(3e-2, 0.1);
  ExpectClose(results[2], reference.d_qkv, tolerance, "d_qkv");
}

TEST_P(DTypes, Attention) {
  for (const AttentionShape& shape : kShapes) Compare(GetParam(), shape, {});
}

// A rank that has the sequences from 3 on, and heads from 2 on of more.
AttentionDropout SomeDropout(const AttentionShape& s) {
  const DropoutMask mask = {.probability = 0.3f, .key = 99, .first_row = 3 * s.tokens, .global_columns = 0};
  return {.mask = mask, .first_head = 2, .global_heads = s.heads + 5};
}

TEST_P(DTypes, AttentionWithDropout) {
  for (const AttentionShape& s : kShapes) Compare(GetParam(), s, SomeDropout(s));
}

TEST(Attention, EveryBf16Kernel) {
  for (const cpu::Bf16Kernel* kernel : cpu::Bf16Kernels()) {
    for (const AttentionShape& s : kShapes) {
      Compare(DType::kBFloat16, s, {}, kernel);
      Compare(DType::kBFloat16, s, SomeDropout(s), kernel);
    }
  }
}

// Scores far apart and far from zero: the softmax is over differences from the maximum.
TEST(Attention, LargeScores) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const AttentionShape s = {1, 150, 1, 1, 4};
  const Tensor qkv = Random(*device, DType::kFloat32, {150, 12}, 1, 30);
  const Tensor out = Poisoned(*device, DType::kFloat32, {150, 4}),
               sums = Poisoned(*device, DType::kFloat32, {1, 1, 150});
  const Values values = Get(*device, qkv);
  Attention(*device, qkv, s, {}, out, sums);
  for (int64_t t = 0; t < 150; ++t) {
    Values scores(t + 1);
    double maximum = -1e300, sum = 0;
    for (int64_t u = 0; u <= t; ++u) {
      for (int64_t d = 0; d < 4; ++d) scores[u] += values[t * 12 + d] * values[u * 12 + 4 + d] / 2;
      maximum = std::max(maximum, scores[u]);
    }
    for (const double score : scores) sum += std::exp(score - maximum);
    EXPECT_NEAR(Get(*device, sums)[t], maximum + std::log(sum), 1e-3 + 1e-5 * std::abs(maximum));
  }
}

TEST(Attention, BackwardIsTheSlope) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const DType f = DType::kFloat32;
  const AttentionShape s = {2, 21, 4, 2, 8};
  for (const float probability : {0.0f, 0.25f}) {
    const AttentionDropout dropout = {
        .mask = {.probability = probability, .key = 7}, .first_head = 0, .global_heads = 4};
    const Tensor qkv = Random(*device, f, {42, s.columns()}, 1), out = Poisoned(*device, f, {42, 32});
    const Tensor sums = Poisoned(*device, f, {2, 4, 21}), d_out = Random(*device, f, {42, 32}, 2);
    const Tensor d_qkv = Poisoned(*device, f, qkv.shape());
    const auto loss = [&] {
      Attention(*device, qkv, s, dropout, out, sums);
      return Dot(Get(*device, out), Get(*device, d_out));
    };
    loss();
    AttentionBackward(*device, d_out, qkv, out, sums, s, dropout, d_qkv);
    ExpectGradient(*device, qkv, loss, Get(*device, d_qkv), "d_qkv", 40);
  }
}

TEST_P(DTypes, Rotary) {
  for (const AttentionShape& s :
       {AttentionShape{2, 7, 4, 2, 8}, {1, 1, 1, 1, 2}, {1, 130, 3, 1, 64}, {0, 4, 1, 1, 6}, {3, 5, 2, 2, 6}}) {
    const int64_t rows = s.batch * s.tokens, half = s.head_dim / 2;
    const float theta = 500;
    Values reference, start;
    const auto results = RunWithThreads([&](Device& device) {
      const Tensor qkv = Random(device, GetParam(), {rows, s.columns()}, 1);
      start = reference = Get(device, qkv);
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t h = 0; h < s.heads + s.kv_heads; ++h) {
          for (int64_t i = 0; i < half; ++i) {
            const double angle = static_cast<double>(row % s.tokens) * std::pow(theta, -2.0 * i / s.head_dim);
            const int64_t a = row * s.columns() + h * s.head_dim + i, b = a + half;
            reference[a] = start[a] * std::cos(angle) - start[b] * std::sin(angle);
            reference[b] = start[b] * std::cos(angle) + start[a] * std::sin(angle);
          }
        }
      }
      Rotary(device, qkv, s, theta, false);
      const Tensor back = Clone(device, qkv);
      Rotary(device, back, s, theta, true);
      return std::vector<Tensor>{qkv, back};
    });
    ExpectClose(results[0], reference, Tolerance(GetParam()), "turned");
    ExpectClose(results[1], start, ToleranceOfInputs(1, 2) * Tolerance(GetParam()), "turned back");
  }
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
