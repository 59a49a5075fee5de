// The buckets of relative positions (Raffel et al. 2020, section 2.1, as their code has it): a distance near 0 has a bucket
// of its own, distances far away share them, on a logarithmic scale, and all beyond kRelativeDistance one.
//
//   std::vector<int32_t> buckets = RelativeBuckets(tokens, /*both_ways=*/true);
//   buckets[key - query + tokens - 1];      // in [0, kRelativeBuckets)
//
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <vector>

namespace trefoil {

inline constexpr int64_t kRelativeBuckets = 32;
inline constexpr int64_t kRelativeDistance = 128;

// Of the distances -(tokens - 1) .. tokens - 1 of a key from a query. both_ways: of an encoder, half of the buckets for
// keys behind the query; else these all have bucket 0.
std::vector<int32_t> RelativeBuckets(int64_t tokens, bool both_ways);

}  // namespace trefoil
