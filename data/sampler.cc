#include "data/sampler.h"

#include <glog/logging.h>

#include <array>

namespace trefoil {
namespace {

constexpr int kRounds = 8;

// SplitMix64's finaliser: a bijection of 64-bit words in which each input bit flips about half of the output bits.
uint64_t Mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9u;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebu;
  x ^= x >> 31;
  return x;
}

constexpr uint64_t kGoldenGamma = 0x9e3779b97f4a7c15u;  // SplitMix64's step: 2^64 over the golden ratio

}  // namespace

Sampler::Sampler(int64_t size, uint64_t seed) : size_(size), seed_(seed), half_bits_(0) {
  CHECK_GE(size, 1);
  while (half_bits_ < 31 && (int64_t{1} << (2 * half_bits_)) < size) ++half_bits_;
  CHECK_LE(size, int64_t{1} << 62);
}

int64_t Sampler::Index(int64_t k) const {
  CHECK_GE(k, 0);
  const uint64_t epoch = static_cast<uint64_t>(k / size_);
  const uint64_t key = Mix(Mix(seed_ + kGoldenGamma) + (epoch + 1) * kGoldenGamma);
  std::array<uint64_t, kRounds> keys;
  for (int round = 0; round < kRounds; ++round) keys[round] = Mix(key + (round + 1) * kGoldenGamma);

  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t x = static_cast<uint64_t>(k % size_);
  // Ends: the network is a bijection, so walking its cycle from a number below size_ comes back to one at the latest
  // where it began.
  do {
    uint64_t left = x >> half_bits_;
    uint64_t right = x & mask;
    for (uint64_t round_key : keys) {
      const uint64_t next = left ^ (Mix(right ^ round_key) & mask);
      left = right;
      right = next;
    }
    x = left << half_bits_ | right;
  } while (x >= static_cast<uint64_t>(size_));
  return static_cast<int64_t>(x);
}

}  // namespace trefoil
