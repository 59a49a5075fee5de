// Counter-based random numbers: Philox 4x32-10 (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2,
// 3", SC11). A number is a pure function of (key, counter), so any slice of a tensor can be filled on any rank with the
// values that the whole tensor would have there.
//
//   const uint64_t key = RandomKey(seed, "blocks.3.attention.q.weight");
//   float x = Normal(key, element);   // element: index in the *global* tensor, row-major
//
// Threads: pure functions.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>

namespace trefoil {

using PhiloxBlock = std::array<uint32_t, 4>;

// Ten rounds. Constants from the paper's table 2.
inline PhiloxBlock Philox(uint64_t key, uint64_t counter_low, uint64_t counter_high = 0) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  PhiloxBlock x = {static_cast<uint32_t>(counter_low), static_cast<uint32_t>(counter_low >> 32),
                   static_cast<uint32_t>(counter_high), static_cast<uint32_t>(counter_high >> 32)};
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * x[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * x[2];
    x = {static_cast<uint32_t>(p1 >> 32) ^ x[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ x[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return x;
}

// A key for everything of one name under one seed: FNV-1a of the name, mixed with the seed.
inline uint64_t RandomKey(uint64_t seed, std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  const PhiloxBlock mixed = Philox(seed, hash);
  return static_cast<uint64_t>(mixed[0]) << 32 | mixed[1];
}

// Uniform in [0, 1), a multiple of 2^-24. Element i is lane i % 4 of block i / 4.
inline float Uniform(uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-24f; }
inline float Uniform(uint64_t key, uint64_t element) { return Uniform(Philox(key, element / 4)[element % 4]); }

// The two standard normals of two lanes (Box & Muller 1958).
inline std::array<float, 2> NormalPair(uint32_t a, uint32_t b) {
  const float radius = std::sqrt(-2.0f * std::log(1.0f - Uniform(a)));
  const float angle = 6.283185307179586f * Uniform(b);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}
// Standard normal. Elements 4j .. 4j+3 come from block j: lanes (0, 1) give the first two, (2, 3) the others.
inline float Normal(uint64_t key, uint64_t element) {
  const PhiloxBlock block = Philox(key, element / 4);
  const size_t lane = element % 4;
  return lane < 2 ? NormalPair(block[0], block[1])[lane] : NormalPair(block[2], block[3])[lane - 2];
}

}  // namespace trefoil
