#include "data/sampler.h"

#include <glog/logging.h>

#include <array>

#include "data/split_mix.h"

namespace trefoil {
namespace {

constexpr int kRounds = 8;

}  // namespace

Sampler::Sampler(int64_t size, uint64_t seed) : size_(size), seed_(seed), half_bits_(0) {
  CHECK_GE(size, 1);
  while (half_bits_ < 31 && (int64_t{1} << (2 * half_bits_)) < size) ++half_bits_;
  CHECK_LE(size, int64_t{1} << 62);
}

int64_t Sampler::Index(int64_t k) const {
  CHECK_GE(k, 0);
  const uint64_t epoch = static_cast<uint64_t>(k / size_);
  const uint64_t key = SplitMix64(SplitMix64(seed_ + kGoldenGamma) + (epoch + 1) * kGoldenGamma);
  std::array<uint64_t, kRounds> keys;
  for (int round = 0; round < kRounds; ++round) keys[round] = SplitMix64(key + (round + 1) * kGoldenGamma);

  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t x = static_cast<uint64_t>(k % size_);
  // Ends: the network is a bijection, so walking its cycle from a number below size_ comes back to one at the latest
  // where it began.
  do {
    uint64_t left = x >> half_bits_;
    uint64_t right = x & mask;
    for (uint64_t round_key : keys) {
      const uint64_t next = left ^ (SplitMix64(right ^ round_key) & mask);
      left = right;
      right = next;
    }
    x = left << half_bits_ | right;
  } while (x >= static_cast<uint64_t>(size_));
  return static_cast<int64_t>(x);
}

}  // namespace trefoil
