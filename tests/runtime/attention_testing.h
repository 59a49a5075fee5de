// What the tests of attention share: a reference in plain loops, random operands, the comparison of what the op gives.
//
//   CompareAttention({.dtype = DType::kFloat32, .shape = {2, 65, 4, 2, 32}, .lengths = {65, 20}});
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/attention.h"
#include "tests/runtime/ops_testing.h"

namespace trefoil {

namespace cpu {
struct Bf16Kernel;
}

AttentionShape Ranged(int64_t batch, TokenRanges tokens, int64_t heads, int64_t kv_heads, int64_t head_dim,
                      std::optional<TokenRanges> keys, bool causal = true);
std::vector<int64_t> PositionsOf(const TokenRanges& tokens);

// Of a rank that has the sequences from 3 on, and heads from 2 on of more.
AttentionDropout SomeDropout(const AttentionShape& s);

// q, k, v in one tensor where the keys are the queries' tokens, else in two, which begin with columns of others.
AttentionHeads RandomHeads(Device& device, DType dtype, const AttentionShape& s, uint64_t seed);
AttentionHeads PoisonedHeads(Device& device, DType dtype, const AttentionHeads& like);

struct AttentionCase {
  DType dtype = DType::kFloat32;
  AttentionShape shape;  // without lengths and starts
  AttentionDropout dropout = {};
  std::vector<int32_t> lengths = {};        // of the samples; empty: not defined
  std::vector<int64_t> documents = {};      // where some begin, in sample b 3 b tokens later; empty: no starts
  int64_t distances = 0;                    // rows of the bias; 0: not defined
  const cpu::Bf16Kernel* bf16 = nullptr;    // by the CPU's kernels with these products; null: the device's kernels
  DType gradient_dtype = DType::kBFloat16;  // float32 where `dtype` is
  double tolerance = 1;                     // in units of the usual one
};

// Expects the forward and the backward to be the reference's, the same bits with every number of threads.
void CompareAttention(const AttentionCase& c);

}  // namespace trefoil
