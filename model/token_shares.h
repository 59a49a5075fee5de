// Which tokens of a sample each rank of the context axis has (parallel.context), of c ranks:
//
//   causal attention   2c chunks; rank r has chunks r and 2c - 1 - r, the early one with few keys to see and the late
//                      one with many, so that all have the same number of pairs of a query and a key ("zigzag")
//   any other          c chunks; rank r has chunk r
//
// Threads: pure functions.
#pragma once

#include "runtime/attention.h"

namespace trefoil {

// `length`, tokens of a sample, is a multiple of ChunksOfTokens.
TokenRanges ShareOfTokens(int64_t length, int ranks, int rank, bool causal);
int64_t ChunksOfTokens(int ranks, bool causal);

}  // namespace trefoil
