// Attention of encoders and from decoders to encoders: samples that end in padding, scales of their own.
#include "runtime/kernels/cpu/bf16_block.h"
#include "tests/runtime/attention_testing.h"

namespace trefoil {
namespace {

// Of three samples: whole, empty, partly padding; with a length above the keys. None.
std::vector<std::vector<int32_t>> SomeLengths(const AttentionShape& s) {
  const auto end = static_cast<int32_t>(s.keys().Position(s.keys().tokens() - 1) + 1);
  return {{}, {end, 0, end / 3}, {end / 2 + 1, end + 70, 13}};
}

// Every combination of what attention is told, of three samples each, in turn with heads, tokens and dims that fill no
// blocks.
std::vector<AttentionCase> Cases(DType dtype) {
  const TokenRanges early = {{16, 48}, {192, 48}}, late = {{64, 20}, {128, 50}};
  std::vector<AttentionCase> cases;
  for (const bool causal : {false, true}) {
    for (AttentionShape s : {Ranged(3, 70, 4, 2, 20, std::nullopt, causal), Ranged(3, 21, 2, 2, 8, 150, causal),
                             Ranged(3, 130, 2, 1, 40, 33, causal), Ranged(3, early, 2, 1, 16, late, causal)}) {
      for (const bool drops : {false, true}) {
        for (const std::vector<int32_t>& lengths : SomeLengths(s)) {
          s.scale = s.scale == 0 ? 0.1f : 0;
          cases.push_back({.dtype = dtype,
                           .shape = s,
                           .dropout = drops ? SomeDropout(s) : AttentionDropout{},
                           .lengths = lengths,
                           .tolerance = 4});  // few keys leave more of the rounding, zeros for the others less to compare
        }
      }
    }
  }
  return cases;
}

TEST_P(DTypes, AttentionVariants) {
  for (const AttentionCase& c : Cases(GetParam())) CompareAttention(c);
}

TEST(AttentionVariants, EveryBf16Kernel) {
  for (const cpu::Bf16Kernel* kernel : cpu::Bf16Kernels()) {
    for (AttentionCase c : Cases(DType::kBFloat16)) {
      c.bf16 = kernel;
      CompareAttention(c);
    }
  }
}

// What lies in rows of padding, if only finite, changes no bit, and its gradients are zeros.
TEST_P(DTypes, PaddingMayBeAnything) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const int64_t batch = 2, queries = 40, keys = 150, real = 70, heads = 2, dim = 16, columns = 2 * heads * dim;
  AttentionShape s = Ranged(batch, queries, heads, heads, dim, keys, /*causal=*/false);
  s.lengths = Ids(*device, {real, 0});
  const Tensor q = Random(*device, GetParam(), {batch * queries, heads * dim}, 1);
  const Tensor d_out = Random(*device, GetParam(), q.shape(), 2);
  const auto results = [&](double padding) {
    Values values = Get(*device, Random(*device, GetParam(), {batch * keys, columns}, 3));
    std::fill(values.begin() + real * columns, values.end(), padding);
    const Tensor kv = From(*device, GetParam(), {batch * keys, columns}, values);
    const Tensor out = Poisoned(*device, GetParam(), q.shape());
    const Tensor sums = Poisoned(*device, DType::kFloat32, {batch, heads, queries});
    const Tensor d_q = Poisoned(*device, GetParam(), q.shape()), d_kv = Poisoned(*device, GetParam(), kv.shape());
    Attention(*device, SeparateHeads(q, kv, s), s, {}, out, sums);
    AttentionBackward(*device, d_out, SeparateHeads(q, kv, s), out, sums, s, {}, SeparateHeads(d_q, d_kv, s));
    EXPECT_EQ(Get(*device, d_kv.Rows(real, batch * keys)), Values((batch * keys - real) * columns));
    std::vector<char> bits;
    for (const Tensor& x : {out, sums, d_q, d_kv}) {
      const std::vector<char> more = Bits(*device, x);
      bits.insert(bits.end(), more.begin(), more.end());
    }
    return bits;
  };
  EXPECT_TRUE(results(0) == results(1e4));
}

TEST(AttentionVariants, BackwardIsTheSlope) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const DType f = DType::kFloat32;
  const TokenRanges two = {{0, 9}, {30, 12}};
  for (AttentionShape s : {Ranged(3, 21, 4, 2, 8, std::nullopt, /*causal=*/false),
                           Ranged(3, 13, 4, 4, 8, 29, /*causal=*/false), Ranged(3, two, 4, 2, 8, 36)}) {
    for (const float probability : {0.0f, 0.25f}) {
      AttentionDropout dropout = SomeDropout(s);
      dropout.probability = probability;
      s.lengths = Ids(*device, {11, 0, 40});
      s.scale = 0.5f;
      const AttentionHeads in = RandomHeads(*device, f, s, 1), d = PoisonedHeads(*device, f, in);
      const Tensor out = Poisoned(*device, f, {3 * s.tokens.tokens(), 32});
      const Tensor sums = Poisoned(*device, f, {3, 4, s.tokens.tokens()}), d_out = Random(*device, f, out.shape(), 2);
      Fill(*device, d.q.rows, 0);  // also what is beside the heads
      Fill(*device, d.k.rows, 0);
      const auto loss = [&] {
        Attention(*device, in, s, dropout, out, sums);
        return Dot(Get(*device, out), Get(*device, d_out));
      };
      loss();
      AttentionBackward(*device, d_out, in, out, sums, s, dropout, d);
      ExpectGradient(*device, in.q.rows, loss, Get(*device, d.q.rows), "d_q");
      ExpectGradient(*device, in.k.rows, loss, Get(*device, d.k.rows), "d_kv");
    }
  }
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
