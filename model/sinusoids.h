// Sinusoidal positions (Vaswani et al. 2017, section 3.5), with the sines in the first half of the columns and the cosines
// in the second, as the models that are shared have them:
//
//   p, i < C/2:  sin(p / 10000^(2i / C)),    p, C/2 + i:  cos(p / 10000^(2i / C))
//
// Threads: pure function.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace trefoil {

// [tokens, columns], row-major; an odd last column is 0.
inline std::vector<float> Sinusoids(int64_t tokens, int64_t columns) {
  std::vector<float> table(static_cast<size_t>(tokens * columns));
  const int64_t half = columns / 2;
  for (int64_t p = 0; p < tokens; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(p) / std::pow(10000.0, 2.0 * static_cast<double>(i) /
                                                                            static_cast<double>(columns));
      table[static_cast<size_t>(p * columns + i)] = static_cast<float>(std::sin(angle));
      table[static_cast<size_t>(p * columns + half + i)] = static_cast<float>(std::cos(angle));
    }
  }
  return table;
}

}  // namespace trefoil
