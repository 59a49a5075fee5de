// What dropout multiplies with, for runs of elements: Philox in vector code.
#pragma once

#include <immintrin.h>

#include "runtime/kernels/cpu/vector.h"
#include "runtime/random.h"

namespace trefoil::cpu {

// The random words of blocks first .. first + 7: words[4 * b + lane], as Philox of runtime/random.h gives them.
inline void PhiloxBlocks(uint64_t key, uint64_t first, uint32_t* words) {
  // A 32-bit word in the low half of each 64-bit lane; what gathers in the high halves is never read.
  __m256i x[2][4];
  for (int half = 0; half < 2; ++half) {
    const auto block = static_cast<int64_t>(first) + 4 * half;
    x[half][0] = _mm256_add_epi64(_mm256_set1_epi64x(block), _mm256_setr_epi64x(0, 1, 2, 3));
    x[half][1] = _mm256_srli_epi64(x[half][0], 32);
    x[half][2] = x[half][3] = _mm256_setzero_si256();
  }
  const __m256i m0 = _mm256_set1_epi64x(0xD2511F53), m1 = _mm256_set1_epi64x(0xCD9E8D57);
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const __m256i key0 = _mm256_set1_epi64x(k0), key1 = _mm256_set1_epi64x(k1);
    for (auto& v : x) {
      const __m256i p0 = _mm256_mul_epu32(v[0], m0), p1 = _mm256_mul_epu32(v[2], m1);
      v[0] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), v[1]), key0);
      v[1] = p1;
      v[2] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), v[3]), key1);
      v[3] = p0;
    }
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  for (int half = 0; half < 2; ++half) {
    // Words (0, 1) and (2, 3) of each block side by side, then all four.
    const __m256i* v = x[half];
    const __m256i low = _mm256_blend_epi32(v[0], _mm256_slli_epi64(v[1], 32), 0xaa);
    const __m256i high = _mm256_blend_epi32(v[2], _mm256_slli_epi64(v[3], 32), 0xaa);
    const __m256i even = _mm256_unpacklo_epi64(low, high), odd = _mm256_unpackhi_epi64(low, high);  // blocks 0 2, 1 3
    auto* out = reinterpret_cast<__m256i*>(words + 16 * half);
    _mm256_storeu_si256(out, _mm256_permute2x128_si256(even, odd, 0x20));
    _mm256_storeu_si256(out + 1, _mm256_permute2x128_si256(even, odd, 0x31));
  }
}

// Floats that DropoutFactors needs for `count` elements: whole runs of blocks.
constexpr int64_t DropoutBuffer(int64_t count) { return count + 2 * 32; }

// For elements first .. first + count - 1 of the mask: 0 where dropped, else 1 / (1 - probability). They lie in
// `buffer`, from the place returned.
inline const float* DropoutFactors(float probability, uint64_t key, uint64_t first, int64_t count, float* buffer) {
  const uint64_t start = first / 32 * 32;
  const auto skipped = static_cast<int64_t>(first - start);
  const float kept = 1.0f / (1.0f - probability);
  for (int64_t i = 0; i < skipped + count; i += 32) {
    uint32_t words[32];
    PhiloxBlocks(key, (start + static_cast<uint64_t>(i)) / 4, words);
    for (int lane = 0; lane < 32; ++lane) {
      const float uniform = static_cast<float>(static_cast<int32_t>(words[lane] >> 8)) * 0x1p-24f;
      buffer[i + lane] = uniform < probability ? 0.0f : kept;
    }
  }
  return buffer + skipped;
}

}  // namespace trefoil::cpu
