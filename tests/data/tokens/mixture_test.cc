#include "data/tokens/mixture.h"

#include <gtest/gtest.h>

namespace trefoil {
namespace {

// Frozen: changing it would change every run that mixes sources.
TEST(Mixture, OrderIsFrozen) {
  const Mixture mixture({0.5, 0.3, 0.2});
  std::string order;
  for (int64_t k = 0; k < 30; ++k) order += static_cast<char>('a' + mixture.At(k).source);
  EXPECT_EQ(order, "abcaabacbaabcaabacbaabcaabacba");
}

TEST(Mixture, EachSourceHasItsShareAtAnyMoment) {
  for (const std::vector<double>& weights :
       {std::vector<double>{1, 1}, {0.999, 0.001}, {5, 3, 2}, {1, 1e-3, 1e-3, 0.3}, {1, 2, 3, 4, 5, 6, 7, 8}}) {
    const Mixture mixture(weights);
    double sum = 0;
    for (const double weight : weights) sum += weight;
    std::vector<int64_t> numbers(weights.size());
    for (int64_t k = 0; k < 2 * Mixture::kPeriod + 1000; ++k) {
      const Mixture::Place place = mixture.At(k);
      ASSERT_EQ(place.number, numbers[static_cast<size_t>(place.source)]++) << k;
      if (k % 977 != 0) continue;
      for (size_t i = 0; i < weights.size(); ++i) {
        ASSERT_NEAR(numbers[i], weights[i] / sum * static_cast<double>(k + 1), 4.0) << "source " << i << " at " << k;
        ASSERT_EQ(mixture.CountBefore(static_cast<int>(i), k + 1), numbers[i]);
      }
    }
    for (const int64_t count : numbers) EXPECT_GT(count, 0);
  }
}

TEST(Mixture, FarSamplesAreArithmetic) {
  const Mixture mixture({2, 1});
  const int64_t far = int64_t{1} << 50;
  const Mixture::Place place = mixture.At(far);
  EXPECT_EQ(place.number, mixture.CountBefore(place.source, far));
  EXPECT_EQ(mixture.CountBefore(0, far) + mixture.CountBefore(1, far), far);
  EXPECT_NEAR(static_cast<double>(mixture.CountBefore(0, far)) / static_cast<double>(far), 2.0 / 3, 1e-4);
  EXPECT_EQ(Mixture({7}).At(far).number, far);
}

}  // namespace
}  // namespace trefoil
