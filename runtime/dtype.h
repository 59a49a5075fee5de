// Element types of tensors, and conversion between fp32 and bf16.
//
// bf16 is the upper half of an fp32: 1 sign, 8 exponent and 7 mantissa bits. Rounding to it is to nearest, ties to even;
// a NaN stays a (quiet) NaN.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace trefoil {

enum class DType : uint8_t { kFloat32, kBFloat16, kInt32 };

// Bytes of one element.
constexpr size_t SizeOf(DType dtype) { return dtype == DType::kBFloat16 ? 2 : 4; }

// The name used in messages and in checkpoint manifests: "float32", "bfloat16", "int32".
constexpr const char* Name(DType dtype) {
  return dtype == DType::kFloat32 ? "float32" : dtype == DType::kBFloat16 ? "bfloat16" : "int32";
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

template <typename T>
constexpr DType kDTypeOf = DType::kInt32;
template <>
inline constexpr DType kDTypeOf<float> = DType::kFloat32;
template <>
inline constexpr DType kDTypeOf<BFloat16> = DType::kBFloat16;

}  // namespace trefoil
