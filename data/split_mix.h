// SplitMix64's finaliser (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): a
// bijection of 64-bit words in which each input bit flips about half of the output bits.
#pragma once

#include <cstdint>

namespace trefoil {

inline constexpr uint64_t kGoldenGamma = 0x9e3779b97f4a7c15u;  // SplitMix64's step: 2^64 over the golden ratio

inline uint64_t SplitMix64(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

}  // namespace trefoil
