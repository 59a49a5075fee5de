#include "model/relative_positions.h"

#include <algorithm>
#include <cmath>

namespace trefoil {
namespace {

// Of a distance in one direction, among `buckets`.
int64_t BucketOf(int64_t distance, int64_t buckets) {
  const int64_t exact = buckets / 2;
  if (distance < exact) return distance;
  // In float, as the published models were trained: at borders a double may say otherwise.
  const float share = std::log(static_cast<float>(distance) / static_cast<float>(exact)) /
                      static_cast<float>(std::log(static_cast<double>(kRelativeDistance) / static_cast<double>(exact)));
  return std::min(buckets - 1, exact + static_cast<int64_t>(share * static_cast<float>(buckets - exact)));
}

}  // namespace

std::vector<int32_t> RelativeBuckets(int64_t tokens, bool both_ways) {
  std::vector<int32_t> buckets;
  for (int64_t distance = 1 - tokens; distance < tokens; ++distance) {
    const int64_t half = kRelativeBuckets / 2;
    const int64_t bucket = both_ways ? BucketOf(std::abs(distance), half) + (distance > 0 ? half : 0)
                                     : BucketOf(std::max<int64_t>(-distance, 0), kRelativeBuckets);
    buckets.push_back(static_cast<int32_t>(bucket));
  }
  return buckets;
}

}  // namespace trefoil
