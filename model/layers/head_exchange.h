// From all heads of some tokens to some heads of all tokens, and back: what ranks that share each sample's tokens send
// each other before and after an attention (parallel.context_method ALL_TO_ALL; Jacobs et al. 2023).
//
//   Tensor mine = ToHeads(context, batch.input, qkv, {H, K, K} * D);    // [N, (H + 2K) * D] -> [c * N, (H + 2K)/c * D]
//   Tensor out = ToTokens(context, batch.input, attended, {H * D});     // [c * N, H/c * D]  -> [N, H * D]
//
// The columns are several groups side by side (queries, keys, values), of each of which context rank r takes the r-th
// part. Rows are sample by sample in order of token: a rank's own N, or all c * N.
#pragma once

#include <vector>

#include "model/context.h"

namespace trefoil {

// groups: columns of each, multiples of the ranks.
Tensor ToHeads(const Context& context, const Sequences& sequences, const Tensor& x, const std::vector<int64_t>& groups);
Tensor ToTokens(const Context& context, const Sequences& sequences, const Tensor& x,
                const std::vector<int64_t>& groups);

}  // namespace trefoil
