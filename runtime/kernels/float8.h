// The scale of Quantize (runtime/ops.h), for every device.
#pragma once

#include <cstdint>

namespace trefoil {

// The bits of the scale, from those of the largest |x|, as integers: in their order, NaN is above infinity and that
// above every number.
template <typename Float8>
constexpr uint32_t ScaleBits(uint32_t largest) {
  constexpr uint32_t kInfinity = 0x7f800000, kNaN = 0x7fc00000, kOne = 0x3f800000;
  if (largest >= kInfinity) return kNaN;
  if (largest == 0) return kOne;
  // The format's largest value is 1.75 x 2^kLargestExponent.
  const bool above = (largest & 0x7fffff) > 0x600000;
  const int exponent = static_cast<int>(largest >> 23) + (above ? 1 : 0) - Float8::kLargestExponent;
  return static_cast<uint32_t>(exponent < 1 ? 1 : exponent) << 23;
}

}  // namespace trefoil
