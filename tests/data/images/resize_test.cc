#include "data/images/resize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace trefoil {
namespace {

// The definition in one sum over all pixels of the picture, in double.
double Reference(const ImageView& image, const Window& window, int64_t height, int64_t width, int64_t y, int64_t x,
                 int64_t c) {
  const double step_y = window.height / height, step_x = window.width / width;
  const double centre_y = window.top + (y + 0.5) * step_y, centre_x = window.left + (x + 0.5) * step_x;
  double sum = 0, weights = 0;
  for (int64_t v = 0; v < image.height; ++v) {
    for (int64_t u = 0; u < image.width; ++u) {
      const double weight = std::max(0.0, 1 - std::abs(v + 0.5 - centre_y) / std::max(step_y, 1.0)) *
                            std::max(0.0, 1 - std::abs(u + 0.5 - centre_x) / std::max(step_x, 1.0));
      sum += weight * image.values[(v * image.width + u) * image.channels + c];
      weights += weight;
    }
  }
  return sum / weights;
}

TEST(Resize, IsTheWeightedMeanOfItsDefinition) {
  std::minstd_rand random(1);
  for (const int64_t channels : {1, 3}) {
    std::vector<uint8_t> values(static_cast<size_t>(23 * 17 * channels));
    for (uint8_t& value : values) value = static_cast<uint8_t>(random());
    const ImageView image = {values, 23, 17, channels};
    for (const Window& window : {Window{0, 0, 23, 17}, Window{3, 2, 11, 5}, Window{0.25, 6.5, 20.5, 10.125}}) {
      for (const auto& [height, width] : {std::pair<int64_t, int64_t>{8, 8}, {23, 17}, {40, 3}, {1, 1}}) {
        std::vector<float> out(static_cast<size_t>(height * width * channels));
        ResizeWindow(image, window, height, width, out);
        for (int64_t y = 0; y < height; ++y) {
          for (int64_t x = 0; x < width; ++x) {
            for (int64_t c = 0; c < channels; ++c) {
              ASSERT_NEAR(out[(y * width + x) * channels + c], Reference(image, window, height, width, y, x, c), 1e-3)
                  << y << " " << x << " " << c << " of " << height << " x " << width;
            }
          }
        }
      }
    }
  }
}

// By Pillow 13: Image.fromarray(v).resize((w, h), Image.BILINEAR), which rounds between rows and columns.
TEST(Resize, IsPillows) {
  std::vector<uint8_t> values;
  for (int y = 0; y < 5; ++y) {
    for (int x = 0; x < 7; ++x) values.push_back(static_cast<uint8_t>((y * 37 + x * 61) * (1 + x * y)));
  }
  const auto expect = [&](const Window& window, int64_t height, int64_t width, const std::vector<int>& pillow) {
    std::vector<float> out(pillow.size());
    ResizeWindow({values, 5, 7, 1}, window, height, width, out);
    for (size_t i = 0; i < pillow.size(); ++i) EXPECT_NEAR(out[i], pillow[i], 1) << i;
  };
  const Window all = {.height = 5, .width = 7};
  expect(all, 3, 4, {67, 152, 149, 56, 119, 146, 52, 59, 112, 124, 56, 48});
  expect(all, 2, 2, {124, 90, 116, 60});
  expect(all, 8, 9, {0,   41,  88,  136, 183, 230, 136, 69, 110, 16,  86,  140, 163, 152, 183, 102, 41, 64,
                     39,  142, 205, 195, 105, 117, 58,  9,  10,  62,  130, 186, 176, 40,  64,  60,  55, 62,
                     86,  133, 165, 146, 44,  36,  43,  64, 93,  109, 152, 142, 105, 117, 33,  7,   37, 102,
                     132, 103, 100, 125, 171, 44,  16,  40, 73,  148, 63,  68,  144, 207, 52,  26,  44, 50});
  expect({.top = 0.5, .left = 1.25, .height = 3.5, .width = 4.5}, 2, 3, {171, 133, 87, 148, 89, 30});
}

TEST(Resize, TheSameSizeIsTheSamePicture) {
  Image image = {.height = 3, .width = 5, .channels = 3, .values = {}};
  for (int i = 0; i < 45; ++i) image.values.push_back(static_cast<uint8_t>(i * 37));
  EXPECT_EQ(CoverAndCrop(image, 3, 5).values, image.values);
}

TEST(CoverAndCrop, KeepsTheMiddleOfTheLongerSide) {
  // Columns 0 10 20 ... 110: the middle four are 40 to 70.
  Image wide = {.height = 4, .width = 12, .channels = 1, .values = {}};
  for (int i = 0; i < 48; ++i) wide.values.push_back(static_cast<uint8_t>(i % 12 * 10));
  const Image square = CoverAndCrop(wide, 4, 4);
  EXPECT_EQ(square.height, 4);
  EXPECT_EQ(square.width, 4);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(square.values[i], 40 + i % 4 * 10) << i;
  // Half the size: means of a triangle, over a slope the value at its middle.
  const Image small = CoverAndCrop(wide, 2, 2);
  EXPECT_EQ(small.values, (std::vector<uint8_t>{45, 65, 45, 65}));
  Image high = {.height = 12, .width = 4, .channels = 1, .values = {}};
  for (int i = 0; i < 48; ++i) high.values.push_back(static_cast<uint8_t>(i / 4 * 10));
  EXPECT_EQ(CoverAndCrop(high, 2, 2).values, (std::vector<uint8_t>{45, 45, 65, 65}));
}

TEST(CoverAndCrop, RoundsToTheNearest) {
  const Image pair = {.height = 1, .width = 2, .channels = 1, .values = {100, 101}};
  EXPECT_EQ(CoverAndCrop({.height = 2, .width = 2, .channels = 1, .values = {255, 255, 255, 255}}, 7, 3).values,
            std::vector<uint8_t>(21, 255));
  EXPECT_EQ(CoverAndCrop(pair, 1, 1).values.size(), 1u);
  const Image rows = {.height = 2, .width = 2, .channels = 1, .values = {0, 1, 1, 1}};
  EXPECT_EQ(CoverAndCrop(rows, 1, 1).values[0], 1);  // 0.75
}

}  // namespace
}  // namespace trefoil
