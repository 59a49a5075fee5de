// A checksum of a tensor's bytes, quick enough to be made of everything that a rank holds: the sum over its 64-bit words
// w_i of w_i (2 i + 1) mod 2^64, the last filled up with zeros. A change of one word, so of one bit, always changes it. It
// does not depend on the device; what is on a GPU is read through the host's memory, a part at a time.
#pragma once

#include <cstdint>

#include "runtime/device.h"

namespace trefoil {

// As the calling thread's queue leaves the tensor; waits for it.
uint64_t Checksum(Device& device, const Tensor& x);

}  // namespace trefoil
