// A memory that errs.
#pragma once

#include <cstdint>

#include "runtime/device.h"

namespace trefoil {

// Flips one bit of the element `index`, in row-major order, of a tensor of any dtype.
inline void FlipBit(Device& device, const Tensor& x, int64_t index, int bit) {
  const Tensor element = x.Range(index, {1});
  uint32_t bits = 0;
  device.Download(element, &bits);
  bits ^= uint32_t{1} << bit;
  device.Upload(&bits, element);
}

}  // namespace trefoil
