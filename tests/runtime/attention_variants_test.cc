// Attention of encoders and from decoders to encoders: samples that end in padding, scales of their own, bias by
// relative position.
#include <algorithm>
#include <utility>

#include "runtime/kernels/cpu/bf16_block.h"
#include "tests/runtime/attention_testing.h"

namespace trefoil {
namespace {

// Of three samples: whole, empty, partly padding; with a length above the keys. None.
std::vector<std::vector<int32_t>> SomeLengths(const AttentionShape& s) {
  const auto end = static_cast<int32_t>(s.keys().Position(s.keys().tokens() - 1) + 1);
  return {{}, {end, 0, end / 3}, {end / 2 + 1, end + 70, 13}};
}

// As few rows as the bias may have.
int64_t DistancesOf(const AttentionShape& s) {
  const std::vector<int64_t> queries = PositionsOf(s.tokens), keys = PositionsOf(s.keys());
  const int64_t before = queries.back() - keys.front(), after = s.causal ? 0 : keys.back() - queries.front();
  return 2 * std::max(before, after) + 1;
}

// Every combination of what attention is told, of three samples each, in turn with heads, tokens and dims that fill no
// blocks.
std::vector<AttentionCase> Cases(DType dtype) {
  const TokenRanges early = {{16, 48}, {192, 48}}, late = {{64, 20}, {128, 50}};
  std::vector<AttentionCase> cases;
  for (const bool causal : {false, true}) {
    for (AttentionShape s : {Ranged(3, 70, 2, 1, 20, std::nullopt, causal), Ranged(3, 21, 2, 2, 8, 90, causal),
                             Ranged(3, 80, 4, 2, 40, 33, causal), Ranged(3, early, 2, 1, 16, late, causal),
                             Ranged(3, {{60, 1}}, 4, 2, 20, 75, causal)}) {
      for (const bool drops : {false, true}) {
        for (const std::vector<int32_t>& lengths : SomeLengths(s)) {
          s.scale = s.scale == 0 ? 0.1f : 0;
          // Few keys leave more of the rounding, and zeros for the others less to compare with.
          AttentionCase c = {.dtype = dtype, .shape = s, .lengths = lengths, .tolerance = 4};
          if (drops) c.dropout = SomeDropout(s);
          cases.push_back(c);
          c.distances = DistancesOf(s);
          cases.push_back(c);
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

// Several documents in a sequence: none in a block, some in one, one over several blocks; of the whole sequence or of
// some of its tokens; keys of which a query sees none.
std::vector<AttentionCase> DocumentCases(DType dtype) {
  const TokenRanges early = {{16, 48}, {192, 48}}, late = {{64, 20}, {128, 50}};
  std::vector<AttentionCase> cases;
  for (const bool causal : {true, false}) {
    for (const AttentionShape& s :
         {Ranged(2, 70, 2, 1, 20, std::nullopt, causal), Ranged(2, 300, 2, 2, 32, std::nullopt, causal),
          Ranged(3, late, 4, 2, 16, early, causal), Ranged(2, early, 2, 1, 16, late, causal),
          Ranged(3, {{140, 1}}, 4, 2, 24, 170, causal)}) {
      for (const std::vector<int64_t>& documents :
           {std::vector<int64_t>{0}, {5, 9, 64}, {1, 130, 131, 200, 250}, {63, 192}}) {
        AttentionCase c = {.dtype = dtype, .shape = s, .documents = documents, .tolerance = 4};
        cases.push_back(c);
        c.dropout = SomeDropout(s);
        // Of queries that see one key the bias's gradient is 0, which bf16 only comes near.
        if (dtype == DType::kFloat32) c.distances = DistancesOf(s);
        if (!causal) c.lengths.assign(static_cast<size_t>(s.batch), 150);
        cases.push_back(c);
      }
    }
  }
  return cases;
}

// Windows of one key, within a block, of several blocks, and larger than all; with documents, and for keys of which some
// or all queries see none.
std::vector<AttentionCase> WindowCases(DType dtype) {
  const TokenRanges early = {{16, 48}, {192, 48}}, late = {{64, 20}, {128, 50}}, last = {{400, 30}};
  std::vector<AttentionCase> cases;
  for (AttentionShape s : {Ranged(2, 70, 2, 1, 20, std::nullopt), Ranged(2, 300, 2, 2, 32, std::nullopt),
                           Ranged(3, late, 4, 2, 16, early), Ranged(2, early, 2, 1, 16, late),
                           Ranged(1, last, 2, 1, 16, late)}) {
    for (const int64_t window : {1, 9, 130, 1000}) {
      s.window = window;
      AttentionCase c = {.dtype = dtype, .shape = s, .tolerance = 4};
      // Of queries that see one key the gradients of scores are 0, which rounding only comes near.
      if (window == 1 && dtype == DType::kBFloat16) continue;
      cases.push_back(c);
      c.documents = {5, 64, 130, 131, 200};
      c.dropout = SomeDropout(s);
      if (s.tokens == last) c.dropout.global_queries = c.dropout.global_keys = 430;
      if (dtype == DType::kFloat32 && window > 1) c.distances = DistancesOf(s);
      c.lengths.assign(static_cast<size_t>(s.batch), 150);
      cases.push_back(c);
    }
  }
  return cases;
}

TEST_P(DTypes, AttentionWithinAWindow) {
  for (const AttentionCase& c : WindowCases(GetParam())) CompareAttention(c);
}

TEST(AttentionVariants, EveryBf16KernelWithinAWindow) {
  for (const cpu::Bf16Kernel* kernel : cpu::Bf16Kernels()) {
    for (AttentionCase c : WindowCases(DType::kBFloat16)) {
      c.bf16 = kernel;
      CompareAttention(c);
    }
  }
}

// What a window leaves out is not computed and not counted: of 512 tokens and a window of 64 a quarter at most.
TEST(AttentionVariants, AWindowIsCounted) {
  const std::unique_ptr<Device> device = NewNullDevice({});
  AttentionShape s = Ranged(1, 512, 2, 2, 16, std::nullopt);
  const Tensor qkv = device->Allocate(DType::kFloat32, {512, s.columns()}, Purpose::kActivations);
  const Tensor out = device->Allocate(DType::kFloat32, {512, 32}, Purpose::kActivations);
  const Tensor sums = device->Allocate(DType::kFloat32, {1, 2, 512}, Purpose::kActivations);
  double flops = 0;
  device->Observe([&](const OpCount& op, auto) { flops += op.flops; });
  const auto of_window = [&](int64_t window) {
    s.window = window;
    flops = 0;
    Attention(*device, FusedHeads(qkv, s), s, {}, out, sums);
    return flops;
  };
  const double pair = 2 * 2.0 * 2 * 16;  // of q k^T and p v, of all heads
  EXPECT_EQ(of_window(0), pair * 512 * 512 / 2);
  EXPECT_EQ(of_window(64), pair * (512 * 512 - 448 * 448) / 2);
  EXPECT_EQ(of_window(512), of_window(0));
}

TEST_P(DTypes, AttentionWithinDocuments) {
  for (const AttentionCase& c : DocumentCases(GetParam())) CompareAttention(c);
}

TEST(AttentionVariants, EveryBf16KernelWithinDocuments) {
  for (const cpu::Bf16Kernel* kernel : cpu::Bf16Kernels()) {
    for (AttentionCase c : DocumentCases(DType::kBFloat16)) {
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
      if (s.causal) s.window = 5;
      s.scale = 0.5f;
      AttentionHeads in = RandomHeads(*device, f, s, 1), d = PoisonedHeads(*device, f, in);
      in.bias = Random(*device, f, {DistancesOf(s) + 4, 4}, 3);
      d.bias = From(*device, f, in.bias.shape(), Values(in.bias.elements()));
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
      ExpectGradient(*device, in.bias, loss, Get(*device, d.bias), "d_bias");
    }
  }
}

// The bias takes workspace, in each thread and for its gradient.
TEST(AttentionVariants, ANullDeviceTakesTheSameMemory) {
  const std::pair<DType, Bf16Products> kinds[] = {{DType::kFloat32, Bf16Products::kNative},
                                                  {DType::kBFloat16, Bf16Products::kNative},
                                                  {DType::kBFloat16, Bf16Products::kFloat32}};
  AttentionShape s = Ranged(2, 30, 4, 2, 8, 50, /*causal=*/false);
  for (const auto& [dtype, products] : kinds) {
    for (const int threads : {1, 3}) {
      const std::unique_ptr<Device> devices[] = {
          NewCpuDevice(threads, products),
          NewNullDevice(
              {.stands_for = NullDeviceOptions::StandsFor::kCpu, .threads = threads, .bf16_products = products})};
      std::vector<int64_t> taken[2][2];  // of a device, without and with bias
      for (const int null : {0, 1}) {
        Device& device = *devices[null];
        for (const int biased : {0, 1}) {
          const auto tensor = [&](DType of, const Shape& shape) {
            const Tensor x = device.Allocate(of, shape, Purpose::kActivations);
            if (of != DType::kInt32) Fill(device, x, 0);
            return x;
          };
          const Tensor q = tensor(dtype, {60, 32}), kv = tensor(dtype, {100, 32}), out = tensor(dtype, q.shape());
          const Tensor d_q = tensor(dtype, q.shape()), d_kv = tensor(dtype, kv.shape());
          const Tensor sums = tensor(DType::kFloat32, {2, 4, 30});
          AttentionHeads heads = SeparateHeads(q, kv, s), d = SeparateHeads(d_q, d_kv, s);
          s.lengths = tensor(DType::kInt32, {2});
          device.Upload(std::vector<int32_t>{50, 20}.data(), s.lengths);
          if (biased == 1) heads.bias = tensor(dtype, {101, 4}), d.bias = tensor(DType::kFloat32, {101, 4});
          device.arena().Observe([&](Purpose, int64_t bytes, bool) { taken[null][biased].push_back(bytes); });
          Attention(device, heads, s, {}, out, sums);
          AttentionBackward(device, out, heads, out, sums, s, {}, d);
          device.arena().Observe(nullptr);
        }
      }
      EXPECT_EQ(taken[0][0], taken[1][0]);
      EXPECT_EQ(taken[0][1], taken[1][1]);
      EXPECT_NE(taken[0][0], taken[0][1]);
    }
  }
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
