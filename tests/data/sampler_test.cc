#include "data/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace trefoil {
namespace {

std::vector<int64_t> Epoch(int64_t size, uint64_t seed, int64_t epoch) {
  Sampler sampler(size, seed);
  std::vector<int64_t> order;
  for (int64_t p = 0; p < size; ++p) order.push_back(sampler.Index(epoch * size + p));
  return order;
}

TEST(Sampler, UsesEverySampleOnceInEachEpoch) {
  for (int64_t size : {1, 2, 3, 4, 5, 7, 15, 16, 17, 64, 97, 255, 256, 257, 1000, 1024, 1025, 4093, 65536, 65537}) {
    for (int64_t epoch : {0, 1, 5}) {
      std::vector<int> used(size);
      for (int64_t index : Epoch(size, 99, epoch)) {
        ASSERT_GE(index, 0);
        ASSERT_LT(index, size);
        EXPECT_EQ(used[index]++, 0) << "size " << size << " epoch " << epoch;
      }
    }
  }
}

TEST(Sampler, EpochsAndSeedsHaveOrdersOfTheirOwn) {
  const auto order = Epoch(1000, 7, 0);
  for (const auto& other : {Epoch(1000, 7, 1), Epoch(1000, 8, 0)}) {
    int same = 0;
    for (size_t i = 0; i < order.size(); ++i) same += order[i] == other[i];
    EXPECT_LT(same, 8);  // two random permutations agree in 1 place on average
  }
}

// Over many seeds each index is equally likely at each position.
TEST(Sampler, IsUniform) {
  constexpr int kSize = 11, kSeeds = 4400;
  std::vector<std::vector<int>> count(kSize, std::vector<int>(kSize));
  for (int seed = 0; seed < kSeeds; ++seed) {
    const auto order = Epoch(kSize, seed, 0);
    for (int p = 0; p < kSize; ++p) ++count[p][order[p]];
  }
  const double expected = static_cast<double>(kSeeds) / kSize;
  double chi_square = 0;
  for (const auto& row : count) {
    for (int c : row) chi_square += (c - expected) * (c - expected) / expected;
  }
  // Freedom (11-1)^2 = 100: mean 100, deviation 14.
  EXPECT_GT(chi_square, 50);
  EXPECT_LT(chi_square, 160);
}

// Neighbours in the run are not neighbours in the data set.
TEST(Sampler, Scatters) {
  constexpr int64_t kSize = 100000;
  const auto order = Epoch(kSize, 3, 0);
  double distance = 0, product = 0;
  for (int64_t p = 1; p < kSize; ++p) {
    distance += std::abs(static_cast<double>(order[p] - order[p - 1]));
    product += (order[p] / double(kSize) - 0.5) * (order[p - 1] / double(kSize) - 0.5);
  }
  EXPECT_NEAR(distance / kSize / kSize, 1.0 / 3, 0.01);  // of two uniform numbers: a third
  EXPECT_NEAR(product / kSize * 12, 0, 0.02);            // correlation
}

// Computed by a separate program (Python, unbounded integers) from the description in sampler.h. If these change,
// resumed runs see other samples than before.
TEST(Sampler, OrderIsFrozen) {
  const Sampler small(1000, 7);
  const int64_t first[] = {97, 394, 314, 31, 637, 358, 808, 25};
  const int64_t second[] = {570, 72, 551, 988, 374, 984, 295, 384};
  for (int k = 0; k < 8; ++k) {
    EXPECT_EQ(small.Index(k), first[k]);
    EXPECT_EQ(small.Index(1000 + k), second[k]);
  }
  const Sampler large(1000000000000, 1234);
  const int64_t expected[] = {498367382482, 577050536492, 956987064261, 729065761531};
  for (int k = 0; k < 4; ++k) EXPECT_EQ(large.Index(k), expected[k]);
}

}  // namespace
}  // namespace trefoil
