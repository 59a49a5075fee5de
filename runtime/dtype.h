// Element types of tensors, and conversion between fp32 and the narrower ones. Rounding is to nearest, ties to even; a
// NaN stays a NaN.
//
// bf16 is the upper half of an fp32: 1 sign, 8 exponent and 7 mantissa bits.
//
// fp8 is OCP's 8-bit floating point (Micikevicius et al. 2022, table 1), with subnormals; what is too large becomes the
// largest value:
//            sign, exponent, mantissa bits   largest        smallest normal   smallest    infinity   NaN
//   e4m3     1, 4, 3                         448            2^-6              2^-9        none       0x7f, 0xff
//   e5m2     1, 5, 2                         57344          2^-14             2^-16       0x7c       0x7d to 0x7f
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace trefoil {

enum class DType : uint8_t { kFloat32, kBFloat16, kInt32, kFloat8E4M3, kFloat8E5M2 };

constexpr bool IsFloat8(DType dtype) { return dtype == DType::kFloat8E4M3 || dtype == DType::kFloat8E5M2; }

// Bytes of one element.
constexpr size_t SizeOf(DType dtype) { return IsFloat8(dtype) ? 1 : dtype == DType::kBFloat16 ? 2 : 4; }

// The name used in messages and in checkpoint manifests.
constexpr const char* Name(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kInt32:
      return "int32";
    case DType::kFloat8E4M3:
      return "float8_e4m3";
    case DType::kFloat8E5M2:
      return "float8_e5m2";
  }
  return "";
}

struct BFloat16 {
  uint16_t bits;

  BFloat16() = default;
  explicit BFloat16(float value) {
    uint32_t u;
    std::memcpy(&u, &value, 4);
    const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<uint16_t>(nan ? (u >> 16) | 0x40u : rounded);
  }
  explicit operator float() const {
    const uint32_t u = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &u, 4);
    return value;
  }
};
static_assert(sizeof(BFloat16) == 2);

// kExponent: of the largest value, 1.75 x 2^kExponent.
template <int kMantissa, int kBias, int kExponent>
struct Float8 {
  static constexpr uint32_t kLargestBits = (kExponent + kBias) << kMantissa | (kMantissa == 3 ? 6 : 3);
  static constexpr int kLargestExponent = kExponent;

  uint8_t bits;

  Float8() = default;
  explicit constexpr Float8(float value) {
    const uint32_t u = std::bit_cast<uint32_t>(value), size = u & 0x7fffffffu;
    constexpr int kShift = 23 - kMantissa;
    uint32_t rounded;
    if (size > 0x7f800000u) {
      rounded = 0x7f;
    } else if (size < uint32_t{128 - kBias} << 23) {
      // Below the smallest normal value: added to a number whose last bit is worth the smallest one.
      constexpr uint32_t kUnit = uint32_t{127 + kShift + 1 - kBias} << 23;
      rounded = std::bit_cast<uint32_t>(std::bit_cast<float>(size) + std::bit_cast<float>(kUnit)) - kUnit;
    } else {
      rounded = ((size + (1u << (kShift - 1)) - 1 + (size >> kShift & 1)) >> kShift) - ((127 - kBias) << kMantissa);
      if (rounded > kLargestBits) rounded = kLargestBits;
    }
    bits = static_cast<uint8_t>(rounded | (u >> 24 & 0x80u));
  }
  explicit constexpr operator float() const {
    const uint32_t size = bits & 0x7fu, sign = uint32_t{bits & 0x80u} << 24;
    if (size > kLargestBits) {
      const bool infinite = kMantissa == 2 && size == kLargestBits + 1;
      return std::bit_cast<float>(sign | (infinite ? 0x7f800000u : 0x7fc00000u));
    }
    constexpr float kScale = std::bit_cast<float>(uint32_t{254 - kBias} << 23);  // 2^(127 - kBias)
    return std::bit_cast<float>(sign | size << (23 - kMantissa)) * kScale;
  }
};
using Float8E4M3 = Float8<3, 7, 8>;
using Float8E5M2 = Float8<2, 15, 15>;
static_assert(sizeof(Float8E4M3) == 1 && Float8E4M3::kLargestBits == 0x7e && Float8E5M2::kLargestBits == 0x7b);

template <typename T>
constexpr DType kDTypeOf = DType::kInt32;
template <>
inline constexpr DType kDTypeOf<float> = DType::kFloat32;
template <>
inline constexpr DType kDTypeOf<BFloat16> = DType::kBFloat16;
template <>
inline constexpr DType kDTypeOf<Float8E4M3> = DType::kFloat8E4M3;
template <>
inline constexpr DType kDTypeOf<Float8E5M2> = DType::kFloat8E5M2;

}  // namespace trefoil
