#include "exchange/number_formats.h"

#include <array>
#include <bit>
#include <cstring>

#include "runtime/dtype.h"

namespace trefoil {
namespace {

template <typename T>
T Load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

template <typename T>
void DecodePlain(const std::byte* bytes, int64_t elements, float* out) {
  for (int64_t i = 0; i < elements; ++i)
    out[i] = static_cast<float>(Load<T>(bytes + i * static_cast<int64_t>(sizeof(T))));
}

void DecodeHalf(const std::byte* bytes, int64_t elements, float* out) {
  for (int64_t i = 0; i < elements; ++i) out[i] = HalfToFloat(Load<uint16_t>(bytes + 2 * i));
}

// Blocks of 32 elements of four bits: the low halves of 16 bytes are the first 16 elements, the high halves the others.
//   Q4_0  f16 d, 16 bytes             d (q - 8)
//   Q4_1  f16 d, f16 m, 16 bytes      d q + m
template <bool kWithMinimum>
void DecodeFourBits(const std::byte* bytes, int64_t elements, float* out) {
  constexpr int64_t kBytes = kWithMinimum ? 20 : 18;
  for (int64_t block = 0; block < elements / 32; ++block, bytes += kBytes, out += 32) {
    const float d = HalfToFloat(Load<uint16_t>(bytes));
    const float m = kWithMinimum ? HalfToFloat(Load<uint16_t>(bytes + 2)) : 0;
    const std::byte* const q = bytes + (kWithMinimum ? 4 : 2);
    for (int i = 0; i < 16; ++i) {
      const int low = static_cast<int>(q[i] & std::byte{15}), high = static_cast<int>(q[i] >> 4);
      out[i] = d * static_cast<float>(kWithMinimum ? low : low - 8) + m;
      out[i + 16] = d * static_cast<float>(kWithMinimum ? high : high - 8) + m;
    }
  }
}

// Q8_0: f16 d, 32 x i8: d q.
void DecodeEightBits(const std::byte* bytes, int64_t elements, float* out) {
  for (int64_t block = 0; block < elements / 32; ++block, bytes += 34, out += 32) {
    const float d = HalfToFloat(Load<uint16_t>(bytes));
    for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(Load<int8_t>(bytes + 2 + i));
  }
}

// Q4_K: f16 d, f16 dmin, 12 bytes of eight scales s and minima m of six bits, 128 bytes; 256 elements as eight groups
// of 32: d s q - dmin m. Groups 2j and 2j + 1 are the low and the high halves of bytes [32 j, 32 j + 32).
void DecodeQ4K(const std::byte* bytes, int64_t elements, float* out) {
  for (int64_t block = 0; block < elements / 256; ++block, bytes += 144) {
    const float d = HalfToFloat(Load<uint16_t>(bytes)), d_min = HalfToFloat(Load<uint16_t>(bytes + 2));
    const auto packed = [&](int i) { return static_cast<unsigned>(bytes[4 + i]); };
    const std::byte* const q = bytes + 16;
    for (int group = 0; group < 8; ++group) {
      const unsigned scale =
          group < 4 ? packed(group) & 63u : (packed(group + 4) & 15u) | (packed(group - 4) >> 6 << 4);
      const unsigned minimum =
          group < 4 ? packed(group + 4) & 63u : (packed(group + 4) >> 4) | (packed(group) >> 6 << 4);
      const float ds = d * static_cast<float>(scale), dm = d_min * static_cast<float>(minimum);
      for (int i = 0; i < 32; ++i) {
        const auto both = static_cast<unsigned>(q[group / 2 * 32 + i]);
        *out++ = ds * static_cast<float>(group % 2 == 0 ? both & 15u : both >> 4) - dm;
      }
    }
  }
}

// Q6_K: 128 bytes of low halves, 64 bytes of upper pairs of bits, 16 x i8 scales, f16 d; 256 elements: d s (q - 32), a
// scale for 16 elements. Each half of 128 elements takes 64 bytes l and 32 bytes h: element 32 k + i has its low four
// bits in half k / 2 of l[32 (k % 2) + i], and its upper two at 2 k of h[i].
void DecodeQ6K(const std::byte* bytes, int64_t elements, float* out) {
  for (int64_t block = 0; block < elements / 256; ++block, bytes += 210) {
    const float d = HalfToFloat(Load<uint16_t>(bytes + 208));
    for (int half = 0; half < 2; ++half) {
      const std::byte* const low = bytes + 64 * half;
      const std::byte* const upper = bytes + 128 + 32 * half;
      const std::byte* const scales = bytes + 192 + 8 * half;
      for (int k = 0; k < 4; ++k) {
        for (int i = 0; i < 32; ++i) {
          const auto l = static_cast<unsigned>(low[k % 2 * 32 + i]) >> (k / 2 * 4) & 15u;
          const auto u = static_cast<unsigned>(upper[i]) >> (2 * k) & 3u;
          const auto scale = static_cast<float>(Load<int8_t>(scales + 2 * k + i / 16));
          *out++ = d * scale * static_cast<float>(static_cast<int>(l | u << 4) - 32);
        }
      }
    }
  }
}

constexpr std::array kFormats = {
    NumberFormat{"F64", 1, 8, DecodePlain<double>},
    NumberFormat{"F32", 1, 4, DecodePlain<float>},
    NumberFormat{"F16", 1, 2, DecodeHalf},
    NumberFormat{"BF16", 1, 2, DecodePlain<BFloat16>},
    NumberFormat{"F8_E4M3", 1, 1, DecodePlain<Float8E4M3>},
    NumberFormat{"F8_E5M2", 1, 1, DecodePlain<Float8E5M2>},
    NumberFormat{"BOOL", 1, 1, DecodePlain<uint8_t>, false},
    NumberFormat{"U8", 1, 1, DecodePlain<uint8_t>, false},
    NumberFormat{"I8", 1, 1, DecodePlain<int8_t>, false},
    NumberFormat{"U16", 1, 2, DecodePlain<uint16_t>, false},
    NumberFormat{"I16", 1, 2, DecodePlain<int16_t>, false},
    NumberFormat{"U32", 1, 4, DecodePlain<uint32_t>, false},
    NumberFormat{"I32", 1, 4, DecodePlain<int32_t>, false},
    NumberFormat{"U64", 1, 8, DecodePlain<uint64_t>, false},
    NumberFormat{"I64", 1, 8, DecodePlain<int64_t>, false},
    NumberFormat{"Q4_0", 32, 18, DecodeFourBits<false>},
    NumberFormat{"Q4_1", 32, 20, DecodeFourBits<true>},
    NumberFormat{"Q8_0", 32, 34, DecodeEightBits},
    NumberFormat{"Q4_K", 256, 144, DecodeQ4K},
    NumberFormat{"Q6_K", 256, 210, DecodeQ6K},
};

}  // namespace

const NumberFormat* FindNumberFormat(std::string_view name) {
  for (const NumberFormat& format : kFormats) {
    if (format.name == name) return &format;
  }
  return nullptr;
}

float HalfToFloat(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16, size = bits & 0x7fffu;
  if (size >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (size & 0x3ffu) << 13);
  // As a number of exponent -14 or less it is exact, subnormal or not.
  const float value = std::bit_cast<float>(size << 13) * std::bit_cast<float>(uint32_t{254 - 15} << 23);  // 2^112
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
}

uint16_t FloatToHalf(float value) {
  const uint32_t u = std::bit_cast<uint32_t>(value), size = u & 0x7fffffffu;
  uint32_t half;
  if (size > 0x7f800000u) {
    half = 0x7e00u;
  } else if (size >= 0x477ff000u) {  // 65520: half way from the largest to the next
    half = 0x7c00u;
  } else if (size < 0x38800000u) {  // below the smallest normal one: added to a number whose last bit is worth 2^-24
    half = std::bit_cast<uint32_t>(std::bit_cast<float>(size) + 0.5f) - std::bit_cast<uint32_t>(0.5f);
  } else {
    half = ((size + 0xfffu + (size >> 13 & 1u)) >> 13) - (112u << 10);
  }
  return static_cast<uint16_t>(half | (u >> 16 & 0x8000u));
}

}  // namespace trefoil
