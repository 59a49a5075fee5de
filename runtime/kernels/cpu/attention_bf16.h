// Attention with the CPU's bf16 instructions: operands in bf16, sums, scores and softmax in fp32, weights and their
// gradients rounded to bf16 where they are multiplied. Block (bf16_block.h) by block, like attention.h; but a block of
// kBlock queries meets blocks of kKeyBlock keys, the last of which ends with what the last query sees.
//
// The left operand of a product lies where it is, as rows of a head in their tensor, or as a copy of them filled up
// with zeros where they are no whole blocks; the right one is packed. D, Tq and Tk are padded to kBf16Pad.
#pragma once

#include "runtime/kernels/cpu/attention.h"
#include "runtime/kernels/cpu/bf16_block.h"

namespace trefoil::cpu {

inline constexpr int64_t kKeyBlock = 128;
static_assert(kKeyBlock % kBlock == 0 && kBlock % kBf16Pad == 0);

// As Attention and AttentionBackward of cpu.h, with cpu.bf16 set and tensors of bf16.
void AttentionBf16(const CpuContext& cpu, const AttentionHeads& in, const AttentionShape& shape,
                   const AttentionDropout& dropout, const Tensor& out, const Tensor& log_sum_exp);
void AttentionBackwardBf16(const CpuContext& cpu, const Tensor& d_out, const AttentionHeads& in, const Tensor& out,
                           const Tensor& log_sum_exp, const AttentionShape& shape, const AttentionDropout& dropout,
                           const AttentionHeads& gradients, Accumulate accumulate);

struct Bf16Layout : ScratchLayout {
  explicit Bf16Layout(const AttentionShape& s)
      : padded(PadBf16(s.head_dim)), tokens(PadBf16(s.tokens.tokens())), key_tokens(PadBf16(s.keys().tokens())) {}
  int64_t TakeBf16(int64_t elements) { return Take((elements + 1) / 2); }
  int64_t padded, tokens, key_tokens;  // D, Tq and Tk, padded
};

// Rows of a head that a block may read as its left operand.
struct LeftRows {
  const BFloat16* data;
  int64_t stride;
};

inline bool RowsFit(int64_t tokens, int64_t head_dim) { return tokens % kBf16Pad == 0 && head_dim % kBf16Pad == 0; }

// All rows of a head: as they lie where they fit, else copied to `copy` [padded tokens, padded D].
inline LeftRows Left(const HeadRows<BFloat16>& rows, int64_t tokens, int64_t head_dim, BFloat16* copy) {
  if (RowsFit(tokens, head_dim)) return {rows.data, rows.stride};
  const int64_t padded = PadBf16(head_dim);
  for (int64_t r = 0; r < PadBf16(tokens); ++r) {
    BFloat16* to = copy + r * padded;
    const int64_t columns = r < tokens ? head_dim : 0;
    std::copy_n(rows.Row(r), columns, to);
    std::fill_n(to + columns, padded - columns, BFloat16(0.0f));
  }
  return {copy, padded};
}

// The right operand from [rows, columns] as it lies: neighbouring rows make pairs. to: [padded rows / 2, padded].
inline void PackRows(const BFloat16* from, int64_t stride, int64_t rows, int64_t columns, Bf16Pair* to,
                     int64_t padded) {
  for (int64_t r = 0; r < PadBf16(rows); r += 2) {
    const BFloat16 *even = from + r * stride, *odd = even + stride;
    Bf16Pair* out = to + r / 2 * padded;
    const int64_t filled = r < rows ? columns : 0;
    if (r + 1 < rows) {
#pragma omp simd
      for (int64_t d = 0; d < filled; ++d) out[d] = MakePair(even[d], odd[d]);
    } else {
      for (int64_t d = 0; d < filled; ++d) out[d] = even[d].bits;
    }
    std::fill_n(out + filled, padded - filled, 0);
  }
}

// The right operand from the transpose of [rows, columns]: neighbours in a row make pairs.
// to: [padded columns / 2, length], with zeros from `rows` to the padded rows.
inline void PackTransposed(const BFloat16* from, int64_t stride, int64_t rows, int64_t columns, Bf16Pair* to,
                           int64_t length) {
  const int64_t whole = columns / 2;
  for (int64_t p = 0; p < PadBf16(columns) / 2; ++p) {
    Bf16Pair* out = to + p * length;
    const BFloat16* at = from + 2 * p;
    const int64_t filled = 2 * p < columns ? rows : 0;
    if (p < whole) {
      for (int64_t r = 0; r < filled; ++r) out[r] = MakePair(at[r * stride], at[r * stride + 1]);
    } else {
      for (int64_t r = 0; r < filled; ++r) out[r] = at[r * stride].bits;
    }
    std::fill_n(out + filled, PadBf16(rows) - filled, 0);
  }
}

}  // namespace trefoil::cpu
