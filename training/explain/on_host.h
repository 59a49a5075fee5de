// A tensor's elements in host memory, to look at.
//
// Threads: as the device.
#pragma once

#include <vector>

#include "runtime/device.h"

namespace trefoil {

// T: as its dtype.
template <typename T>
std::vector<T> OnHost(Device& device, const Tensor& x) {
  std::vector<T> values(static_cast<size_t>(x.elements()));
  device.Download(x, values.data());
  return values;
}

}  // namespace trefoil
