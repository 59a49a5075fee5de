// Pictures to another size.
//
//   const Image small = CoverAndCrop(image, 224, 224);          // as much of it as 224 x 224 can show
//
// Bilinear, with antialiasing: a result pixel is a mean of the pixels around its place, weighted by a triangle that
// reaches one pixel to either side, of the result's pixels where the picture gets smaller and of the picture's where
// it gets larger; rows and columns one after the other. So no pixel of a picture that shrinks is left out. This is
// Pillow's BILINEAR and torchvision's default, to rounding. A picture that keeps its size keeps its values.
//
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <span>

#include "data/images/image.h"

namespace trefoil {

// A part of a picture, in pixels from its upper left corner; not empty, inside the picture.
struct Window {
  double top = 0;
  double left = 0;
  double height = 0;
  double width = 0;
};

// The pixels of a picture somewhere in memory, as Image has them.
struct ImageView {
  std::span<const uint8_t> values;
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 0;
};

// Scales the window to height x width; out[(y * width + x) * channels + c], 0 to 255, is not rounded. Near the window's
// edge what lies beyond it in the picture has its weight too.
void ResizeWindow(const ImageView& image, const Window& window, int64_t height, int64_t width, std::span<float> out);

// Scales the picture, keeping its shape, to just cover height x width, and crops what is over on two sides in equal
// parts.
Image CoverAndCrop(const Image& image, int64_t height, int64_t width);

}  // namespace trefoil
