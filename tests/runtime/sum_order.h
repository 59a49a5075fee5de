// The one order of addition (runtime/ops.h, SumParts), by its definition: neighbours, then neighbours of their sums ...
#pragma once

#include <utility>
#include <vector>

namespace trefoil {

// Of floats, or of std::valarrays of them element by element.
template <typename T>
T SumInOrder(std::vector<T> parts) {
  while (parts.size() > 1) {
    std::vector<T> sums;
    for (size_t i = 0; i + 1 < parts.size(); i += 2) sums.push_back(parts[i] += parts[i + 1]);
    if (parts.size() % 2 == 1) sums.push_back(parts.back());
    parts = std::move(sums);
  }
  return parts.front();
}

}  // namespace trefoil
