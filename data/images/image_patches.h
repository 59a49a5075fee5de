// A picture as a network of patches reads it (Dosovitskiy et al. 2021): values v in 0 .. 255 turned into
// (v / 255 - mean) / deviation of their channel, and cut into patches, row by row from the upper left. A patch's
// channels x size^2 values are in the order channel, row, column: as a convolution's weight has them.
//
//   std::vector<float> pixels(image.values.begin(), image.values.end());
//   Normalise(pixels, image.channels, {0.5}, {0.5});
//   CopyPatch({.pixels = pixels, .width = 224, .channels = 3}, /*size=*/16, /*n=*/7, out);
//
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace trefoil {

// `mean` and `deviation` are of values from 0 to 1: one number for each channel or one for all of them.
void Normalise(std::span<float> pixels, int64_t channels, const std::vector<double>& mean,
               const std::vector<double>& deviation);

// Pixels of rows of `width`, channels side by side.
struct PixelView {
  std::span<const float> pixels;
  int64_t width = 0;
  int64_t channels = 0;
};

// Patch n of size x size, which divides the width; `out` has room for channels x size^2 values.
void CopyPatch(const PixelView& view, int64_t size, int64_t n, float* out);

}  // namespace trefoil
