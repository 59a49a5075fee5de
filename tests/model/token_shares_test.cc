#include "model/token_shares.h"

#include <gtest/gtest.h>

#include <vector>

namespace trefoil {
namespace {

// Of a query and a key that it sees.
int64_t Pairs(const TokenRanges& tokens) {
  int64_t pairs = 0;
  for (int64_t row = 0; row < tokens.tokens(); ++row) pairs += tokens.Position(row) + 1;
  return pairs;
}

TEST(TokenShares, EveryTokenHasOneRank) {
  for (const bool causal : {false, true}) {
    for (const int ranks : {1, 2, 3, 4, 8}) {
      const int64_t length = 3 * ChunksOfTokens(ranks, causal);
      std::vector<int> holders(static_cast<size_t>(length));
      for (int rank = 0; rank < ranks; ++rank) {
        const TokenRanges tokens = ShareOfTokens(length, ranks, rank, causal);
        EXPECT_EQ(tokens.tokens(), length / ranks);
        for (int64_t row = 0; row < tokens.tokens(); ++row) ++holders[static_cast<size_t>(tokens.Position(row))];
      }
      EXPECT_EQ(holders, std::vector<int>(holders.size(), 1)) << ranks << " ranks";
    }
  }
}

TEST(TokenShares, CausalRanksHaveEqualWork) {
  for (const int ranks : {2, 4, 8}) {
    const int64_t length = 6 * ranks;
    for (int rank = 0; rank < ranks; ++rank) {
      EXPECT_EQ(Pairs(ShareOfTokens(length, ranks, rank, true)), length * (length + 1) / 2 / ranks) << rank;
    }
  }
}

TEST(TokenShares, Examples) {
  EXPECT_EQ(ShareOfTokens(16, 4, 1, true), TokenRanges({{2, 2}, {12, 2}}));
  EXPECT_EQ(ShareOfTokens(16, 4, 3, true), TokenRanges({{6, 4}}));
  EXPECT_EQ(ShareOfTokens(16, 4, 1, false), TokenRanges({{4, 4}}));
  EXPECT_EQ(ShareOfTokens(15, 1, 0, true), TokenRanges(15));
}

}  // namespace
}  // namespace trefoil
