#include "training/checksum.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

namespace trefoil {
namespace {

// Of words [first, first + words) of something. The last word may be filled up with zeros.
uint64_t WordSum(const std::byte* bytes, int64_t size, uint64_t first) {
  uint64_t sum = 0, word = 0;
  int64_t i = 0;
  for (; (i + 1) * 8 <= size; ++i) {
    std::memcpy(&word, bytes + i * 8, 8);
    sum += word * (2 * (first + static_cast<uint64_t>(i)) + 1);
  }
  word = 0;
  std::memcpy(&word, bytes + i * 8, static_cast<size_t>(size - i * 8));
  return sum + word * (2 * (first + static_cast<uint64_t>(i)) + 1);
}

}  // namespace

uint64_t Checksum(Device& device, const Tensor& x) {
  if (device.host_addressable()) return WordSum(static_cast<const std::byte*>(x.raw()), x.bytes(), 0);
  constexpr int64_t kElements = int64_t{4} << 20;
  uint64_t sum = 0;
  std::vector<std::byte> host;
  const Tensor flat = x.Range(0, {x.elements()});
  for (int64_t begin = 0; begin < flat.elements(); begin += kElements) {
    const Tensor part = flat.Range(begin, {std::min(kElements, flat.elements() - begin)});
    host.resize(static_cast<size_t>(part.bytes()));
    device.Download(part, host.data());
    sum += WordSum(host.data(), part.bytes(), static_cast<uint64_t>(begin * (flat.bytes() / flat.elements()) / 8));
  }
  return sum;
}

}  // namespace trefoil
