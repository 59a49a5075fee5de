// Attention of ranks that share each sample's tokens, by a ring of their keys and values (parallel.context_method RING;
// Liu, Zaharia & Abbeel 2023). Rank r of c begins with its own and passes on what it has, to rank r + 1:
//
//   step s = 0 .. c - 1:  keys and values of rank (r - s) mod c are here, and on their way to rank r + 1;
//                         this rank's queries attend to them; parts are merged by their log-sum-exp in float32
//
// Where this rank's queries see none of the keys that came, all of them being behind or outside the window, there is
// nothing to compute.
//
// The backward sends keys and values round once more. Their gradients, in float32, travel a step behind: each rank adds
// its part and passes them on, and after c steps they come home. Every part's backward takes the log-sum-exp and the
// output of all parts.
//
// Messages move while this rank attends to what it has (Group::StartReceive).
#pragma once

#include <functional>

#include "model/context.h"

namespace trefoil {

struct RingPlace {
  AttentionShape shape;                       // `tokens` are this rank's; no key_tokens
  AttentionDropout dropout;
  std::function<TokenRanges(int rank)> keys;  // of each rank: as many as this one's
};

// qkv: [N, (H + 2K)/t * D], rotated. out: [N, H/t * D] and log_sum_exp [B, H/t, T], written.
void RingAttention(const Context& context, const RingPlace& place, const Tensor& qkv, const Tensor& out,
                   const Tensor& log_sum_exp);
// d_qkv, of qkv's shape, written.
void RingAttentionBackward(const Context& context, const RingPlace& place, const Tensor& d_out, const Tensor& qkv,
                           const Tensor& out, const Tensor& log_sum_exp, const Tensor& d_qkv);

}  // namespace trefoil
