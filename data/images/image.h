// A picture in memory.
#pragma once

#include <cstdint>
#include <vector>

namespace trefoil {

// A plain value: copy or move it.
struct Image {
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 0;         // 1: grey; 3: red, green, blue
  std::vector<uint8_t> values;  // values[(y * width + x) * channels + c], 0 to 255, as sRGB has them
};

}  // namespace trefoil
