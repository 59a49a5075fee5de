// The one order of addition (runtime/ops.h, SumParts), by its definition: neighbours, then neighbours of their sums ...
#pragma once

#include <vector>

namespace trefoil {

inline float SumInOrder(std::vector<float> parts) {
  while (parts.size() > 1) {
    std::vector<float> sums;
    for (size_t i = 0; i + 1 < parts.size(); i += 2) sums.push_back(parts[i] + parts[i + 1]);
    if (parts.size() % 2 == 1) sums.push_back(parts.back());
    parts = sums;
  }
  return parts.front();
}

}  // namespace trefoil
