#include <limits>
#include <optional>

#include "runtime/kernels/cpu/bf16_block.h"
#include "tests/runtime/attention_testing.h"

namespace trefoil {
namespace {

// A decoder's, from one tensor.
const AttentionShape kShapes[] = {
    {2, 5, 2, 2, 8},    {1, 1, 1, 1, 8},   {1, 64, 3, 3, 16}, {2, 65, 4, 2, 32},  {1, 130, 6, 1, 64}, {1, 100, 2, 1, 1},
    {1, 33, 2, 2, 128}, {1, 17, 2, 1, 20}, {0, 9, 2, 2, 8},   {1, 200, 1, 1, 24}, {1, 192, 2, 1, 32},
};

// Whole and causal, in ranges, between two sequences, with and without anything to see.
std::vector<AttentionShape> OtherShapes() {
  const TokenRanges early = {{16, 48}, {192, 48}}, late = {{64, 64}, {128, 64}},
                    few = {{3, 2}, {9, 1}, {70, 5}, {99, 1}};
  return {
      Ranged(2, 70, 4, 2, 16, std::nullopt, /*causal=*/false),  // an encoder's
      Ranged(2, 21, 4, 1, 8, 150, /*causal=*/false),            // from a decoder to an encoder
      Ranged(1, 150, 2, 2, 40, 33, /*causal=*/false),
      Ranged(1, early, 4, 2, 32, std::nullopt),                 // zigzag: the own keys, others' keys
      Ranged(2, early, 2, 2, 16, late),
      Ranged(1, late, 2, 1, 64, early),
      Ranged(1, few, 2, 2, 8, 100),
      Ranged(1, 100, 2, 2, 8, few),
      Ranged(1, TokenRanges{{100, 28}}, 2, 1, 32, 128),         // the last of a sequence
      Ranged(1, 64, 2, 2, 16, TokenRanges{{32, 64}}),           // the first half sees no key
      Ranged(1, 80, 2, 2, 16, TokenRanges{{80, 64}}),           // nobody does
      Ranged(2, 40, 2, 1, 8, 0),                                // there is none
      Ranged(2, 0, 2, 1, 8, 40),                                // there is no query
      Ranged(1, 40, 2, 1, 8, 0, /*causal=*/false),
  };
}

TEST_P(DTypes, Attention) {
  for (const AttentionShape& shape : kShapes) CompareAttention({.dtype = GetParam(), .shape = shape});
}

TEST_P(DTypes, AttentionOfRanges) {
  for (const AttentionShape& shape : OtherShapes()) {
    CompareAttention({.dtype = GetParam(), .shape = shape});
    if (GetParam() == DType::kFloat32) continue;
    CompareAttention({.dtype = GetParam(), .shape = shape, .gradient_dtype = DType::kFloat32});
  }
}

TEST_P(DTypes, AttentionWithDropout) {
  std::vector<AttentionShape> shapes = OtherShapes();
  shapes.insert(shapes.end(), std::begin(kShapes), std::end(kShapes));
  for (const AttentionShape& s : shapes) {
    CompareAttention({.dtype = GetParam(), .shape = s, .dropout = SomeDropout(s)});
  }
}

TEST(Attention, EveryBf16Kernel) {
  std::vector<AttentionShape> shapes = OtherShapes();
  shapes.insert(shapes.end(), std::begin(kShapes), std::end(kShapes));
  for (const cpu::Bf16Kernel* kernel : cpu::Bf16Kernels()) {
    for (const AttentionShape& s : shapes) {
      CompareAttention({.dtype = DType::kBFloat16, .shape = s, .bf16 = kernel});
      CompareAttention({.dtype = DType::kBFloat16, .shape = s, .dropout = SomeDropout(s), .bf16 = kernel});
    }
  }
}

// What attention over all keys gives, from parts of them: the forwards merged, the backwards from the merged results.
void CompareParts(DType dtype, const AttentionShape& whole, const std::vector<TokenRanges>& parts) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const DType f = DType::kFloat32;
  const AttentionDropout dropout = SomeDropout(whole);
  const int64_t tokens = whole.tokens.tokens(), keys = whole.keys().tokens();
  const int64_t q_columns = whole.heads * whole.head_dim, kv_columns = 2 * whole.kv_heads * whole.head_dim;
  CHECK_EQ(whole.batch, 1);
  const Tensor q = Random(*device, dtype, {tokens, q_columns}, 1), kv = Random(*device, dtype, {keys, kv_columns}, 2);
  const Tensor out = Poisoned(*device, dtype, q.shape()), sums = Poisoned(*device, f, {1, whole.heads, tokens});
  const Tensor d_out = Random(*device, dtype, q.shape(), 3);
  const Tensor d_q = Poisoned(*device, f, q.shape()), d_kv = Poisoned(*device, f, kv.shape());
  Attention(*device, SeparateHeads(q, kv, whole), whole, dropout, out, sums);
  AttentionBackward(*device, d_out, SeparateHeads(q, kv, whole), out, sums, whole, dropout,
                    SeparateHeads(d_q, d_kv, whole));

  const Tensor merged = Poisoned(*device, f, q.shape()), merged_sums = Poisoned(*device, f, sums.shape());
  std::vector<AttentionShape> shapes;
  std::vector<AttentionHeads> heads, gradients;
  const Tensor d_q_parts = Poisoned(*device, f, q.shape()), d_kv_parts = Poisoned(*device, f, kv.shape());
  Fill(*device, d_q_parts, 0);
  Fill(*device, d_kv_parts, 0.5f);  // something that was there
  int64_t begin = 0;
  for (const TokenRanges& part : parts) {
    AttentionShape shape = whole;
    shape.key_tokens = part;
    const int64_t end = begin + part.tokens();
    shapes.push_back(shape);
    heads.push_back(SeparateHeads(q, kv.Rows(begin, end), whole));
    gradients.push_back(SeparateHeads(d_q_parts, d_kv_parts.Rows(begin, end), whole));
    begin = end;
    const bool first = shapes.size() == 1;
    const Tensor of_part = Poisoned(*device, dtype, q.shape());
    const Tensor sums_of_part = first ? merged_sums : Poisoned(*device, f, sums.shape());
    Attention(*device, heads.back(), shape, dropout, of_part, sums_of_part);
    if (first) {
      Cast(*device, of_part, merged);
    } else {
      MergeAttention(*device, merged, merged_sums, of_part, sums_of_part);
    }
  }
  ASSERT_EQ(begin, keys);
  ExpectClose(Get(*device, merged), Get(*device, out), dtype == f ? 3e-6 : 2e-2, "merged out");
  ExpectClose(Get(*device, merged_sums), Get(*device, sums), 3e-6, "merged log_sum_exp");
  const Tensor final_out = Poisoned(*device, dtype, q.shape());
  Cast(*device, merged, final_out);
  for (size_t i = 0; i < parts.size(); ++i) {
    AttentionBackward(*device, d_out, heads[i], final_out, merged_sums, shapes[i], dropout, gradients[i],
                      Accumulate::kYes);
  }
  Values d_kv_values = Get(*device, d_kv_parts);
  for (double& value : d_kv_values) value -= 0.5;
  ExpectClose(Get(*device, d_q_parts), Get(*device, d_q), dtype == f ? 1e-5 : 3e-2, "d_q");
  ExpectClose(d_kv_values, Get(*device, d_kv), dtype == f ? 1e-5 : 3e-2, "d_kv");
}

TEST_P(DTypes, PartsOfTheKeysMerge) {
  const AttentionShape shape = Ranged(1, 200, 4, 2, 16, 200), cross = Ranged(1, 33, 2, 2, 32, 160, /*causal=*/false);
  // The queries of the first part see nothing of the others: their parts are empty.
  CompareParts(GetParam(), shape, {100, TokenRanges{{100, 100}}});
  CompareParts(GetParam(), shape, {64, TokenRanges{{64, 70}}, TokenRanges{{134, 66}}});
  CompareParts(GetParam(), cross, {0, 31, TokenRanges{{31, 129}}});
  // Zigzag: rank 1 of 3 and the keys of ranks 0, 1, 2; the first part in two ranges, so rows are not in order of keys.
  const TokenRanges mine = {{32, 32}, {128, 32}};
  AttentionShape zigzag = Ranged(1, mine, 2, 1, 16, TokenRanges{{0, 32}, {32, 32}, {64, 64}, {128, 64}});
  CompareParts(GetParam(), zigzag, {TokenRanges{{0, 32}}, TokenRanges{{32, 32}, {64, 64}}, TokenRanges{{128, 64}}});
}

TEST(Attention, MergingWhatSawNothing) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const DType f = DType::kFloat32;
  const double none = -std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  // Heads of one column; the first part sees something, the second, both, neither.
  const Tensor out = From(*device, f, {1, 4}, {3, 0, 1, 0}), sums = From(*device, f, {1, 4, 1}, {2, none, 1, none});
  const Tensor part = From(*device, f, {1, 4}, {nan, 5, 2, nan});
  MergeAttention(*device, out, sums, part, From(*device, f, {1, 4, 1}, {none, 7, 1, none}));
  EXPECT_EQ(Get(*device, out), Values({3, 5, 1.5, 0}));
  EXPECT_EQ(Get(*device, sums), Values({2, 7, static_cast<float>(1 + std::log(2.0)), none}));
}

// Scores far apart and far from zero: the softmax is over differences from the maximum.
TEST(Attention, LargeScores) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const AttentionShape s = {1, 150, 1, 1, 4};
  const Tensor qkv = Random(*device, DType::kFloat32, {150, 12}, 1, 30);
  const Tensor out = Poisoned(*device, DType::kFloat32, {150, 4}),
               sums = Poisoned(*device, DType::kFloat32, {1, 1, 150});
  const Values values = Get(*device, qkv);
  Attention(*device, FusedHeads(qkv, s), s, {}, out, sums);
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
  const TokenRanges two = {{0, 9}, {30, 12}};
  for (const AttentionShape& s : {AttentionShape{2, 21, 4, 2, 8}, Ranged(2, 13, 4, 2, 8, 29, /*causal=*/false),
                                  Ranged(2, two, 4, 2, 8, 36)}) {
    for (const float probability : {0.0f, 0.25f}) {
      AttentionDropout dropout = SomeDropout(s);
      dropout.probability = probability;
      const AttentionHeads in = RandomHeads(*device, f, s, 1), d = PoisonedHeads(*device, f, in);
      const Tensor out = Poisoned(*device, f, {2 * s.tokens.tokens(), 32});
      const Tensor sums = Poisoned(*device, f, {2, 4, s.tokens.tokens()}), d_out = Random(*device, f, out.shape(), 2);
      Fill(*device, d.q.rows, 0);  // also what is beside the heads
      Fill(*device, d.k.rows, 0);
      const auto loss = [&] {
        Attention(*device, in, s, dropout, out, sums);
        return Dot(Get(*device, out), Get(*device, d_out));
      };
      loss();
      AttentionBackward(*device, d_out, in, out, sums, s, dropout, d);
      ExpectGradient(*device, in.q.rows, loss, Get(*device, d.q.rows), "d_q", 40);
      ExpectGradient(*device, in.k.rows, loss, Get(*device, d.k.rows), "d_kv", 40);
    }
  }
}

TEST_P(DTypes, Rotary) {
  struct Case {
    int64_t batch;
    TokenRanges tokens;
    int64_t heads, others, dim;  // `others` heads are left alone, before and after
  };
  const Case cases[] = {{2, 7, 6, 2, 8},  {1, 1, 2, 1, 2}, {1, 130, 4, 1, 64},
                        {0, 4, 2, 1, 6},  {3, 5, 4, 2, 6}, {2, TokenRanges{{3, 4}, {90, 5}}, 3, 1, 16}};
  using Scaling = RotaryFrequencies::Scaling;
  const RotaryFrequencies scalings[] = {
      {.theta = 500},
      {.theta = 500, .scaling = Scaling::kAll, .factor = 4},
      {.theta = 500, .scaling = Scaling::kByTurns, .factor = 8, .low = 1, .high = 4, .original_length = 64},
      {.theta = 500, .scaling = Scaling::kByPair, .factor = 8, .low = 0.5, .high = 2.5, .magnitude = 1.25}};
  for (const auto& [c, frequencies] : [&] {
         std::vector<std::pair<Case, RotaryFrequencies>> all;
         for (const Case& one : cases) {
           for (const RotaryFrequencies& scaling : scalings) all.emplace_back(one, scaling);
         }
         return all;
       }()) {
    const std::vector<int64_t> positions = PositionsOf(c.tokens);
    const int64_t rows = c.batch * c.tokens.tokens(), half = c.dim / 2, columns = (c.heads + 2 * c.others) * c.dim;
    // As the papers have it.
    const auto frequency_of = [&](int64_t i) {
      const double f = std::pow(static_cast<double>(frequencies.theta), -2.0 * static_cast<double>(i) / c.dim);
      const double turns = frequencies.original_length * f / (2 * std::acos(-1.0));
      double kept = 1;
      if (frequencies.scaling == Scaling::kAll) kept = 0;
      if (frequencies.scaling == Scaling::kByTurns) kept = std::clamp((turns - 1) / 3, 0.0, 1.0);
      if (frequencies.scaling == Scaling::kByPair) kept = 1 - std::clamp((static_cast<double>(i) - 0.5) / 2, 0.0, 1.0);
      return kept * f + (1 - kept) * f / frequencies.factor;
    };
    Values reference, start;
    const auto results = RunWithThreads([&](Device& device) {
      const Tensor x = Random(device, GetParam(), {rows, columns}, 1);
      start = reference = Get(device, x);
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t h = c.others; h < c.others + c.heads; ++h) {
          for (int64_t i = 0; i < half; ++i) {
            const auto position = static_cast<double>(positions[row % positions.size()]);
            const double angle = position * frequency_of(i), m = frequencies.magnitude;
            const int64_t a = row * columns + h * c.dim + i, b = a + half;
            reference[a] = m * (start[a] * std::cos(angle) - start[b] * std::sin(angle));
            reference[b] = m * (start[b] * std::cos(angle) + start[a] * std::sin(angle));
          }
        }
      }
      Rotary(device, {x, c.others * c.dim}, c.heads, c.dim, c.tokens, frequencies, false);
      const Tensor back = Clone(device, x);
      Rotary(device, {back, c.others * c.dim}, c.heads, c.dim, c.tokens, frequencies, true);
      return std::vector<Tensor>{x, back};
    });
    ExpectClose(results[0], reference, Tolerance(GetParam()), "turned");
    // Once more times the magnitude, as a gradient.
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = c.others * c.dim; i < (c.others + c.heads) * c.dim; ++i) {
        start[row * columns + i] *= frequencies.magnitude * frequencies.magnitude;
      }
    }
    ExpectClose(results[1], start, ToleranceOfInputs(1, 2) * Tolerance(GetParam()), "turned back");
  }
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
