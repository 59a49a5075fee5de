#include "model/token_shares.h"

namespace trefoil {

int64_t ChunksOfTokens(int ranks, bool causal) {
  if (ranks == 1) return 1;
  return causal ? 2 * int64_t{ranks} : ranks;
}

TokenRanges ShareOfTokens(int64_t length, int ranks, int rank, bool causal) {
  CHECK(0 <= rank && rank < ranks) << rank << " of " << ranks;
  const int64_t chunks = ChunksOfTokens(ranks, causal), tokens = length / chunks;
  CHECK_EQ(length % chunks, 0) << length << " tokens in " << chunks << " chunks";
  if (ranks == 1 || !causal) return {{rank * tokens, tokens}};
  // The last rank's two are neighbours.
  if (rank + 1 == ranks) return {{rank * tokens, 2 * tokens}};
  return {{rank * tokens, tokens}, {(chunks - 1 - rank) * tokens, tokens}};
}

}  // namespace trefoil
