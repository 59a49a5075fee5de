#include "data/images/resize.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace trefoil {
namespace {

// What one row or column of the result is made of: pixels [first, first + weights.size()) of the picture.
struct Mean {
  int64_t first = 0;
  std::vector<float> weights;  // of sum 1
};

// Of `to` result pixels over [begin, begin + length) of a picture's `from` pixels.
std::vector<Mean> Means(int64_t from, double begin, double length, int64_t to) {
  const double step = length / static_cast<double>(to);
  const double reach = std::max(step, 1.0);
  std::vector<Mean> means(static_cast<size_t>(to));
  for (int64_t i = 0; i < to; ++i) {
    const double centre = begin + (static_cast<double>(i) + 0.5) * step;
    Mean& mean = means[static_cast<size_t>(i)];
    mean.first = std::max<int64_t>(static_cast<int64_t>(std::floor(centre - reach + 0.5)), 0);
    const int64_t end = std::min<int64_t>(static_cast<int64_t>(std::floor(centre + reach + 0.5)), from);
    double sum = 0;
    for (int64_t k = mean.first; k < end; ++k) {
      const double weight = std::max(1 - std::abs(static_cast<double>(k) + 0.5 - centre) / reach, 0.0);
      mean.weights.push_back(static_cast<float>(weight));
      sum += weight;
    }
    CHECK_GT(sum, 0) << i << " of " << to << " over " << begin << " + " << length;
    for (float& weight : mean.weights) weight = static_cast<float>(weight / sum);
  }
  return means;
}

}  // namespace

void ResizeWindow(const ImageView& image, const Window& window, int64_t height, int64_t width, std::span<float> out) {
  const int64_t channels = image.channels;
  CHECK_EQ(static_cast<int64_t>(image.values.size()), image.height * image.width * channels);
  CHECK_EQ(static_cast<int64_t>(out.size()), height * width * channels);
  const std::vector<Mean> columns = Means(image.width, window.left, window.width, width);
  const std::vector<Mean> rows = Means(image.height, window.top, window.height, height);
  // The picture's rows that are needed, each made `width` long.
  const int64_t first_row = rows.front().first;
  const int64_t row_count = rows.back().first + static_cast<int64_t>(rows.back().weights.size()) - first_row;
  std::vector<float> narrow(static_cast<size_t>(row_count * width * channels));
  for (int64_t y = 0; y < row_count; ++y) {
    const uint8_t* row = &image.values[static_cast<size_t>((first_row + y) * image.width * channels)];
    float* to = &narrow[static_cast<size_t>(y * width * channels)];
    for (const Mean& column : columns) {
      for (int64_t c = 0; c < channels; ++c) {
        const uint8_t* from = row + column.first * channels + c;
        float sum = 0;
        for (const float weight : column.weights) {
          sum += weight * *from;
          from += channels;
        }
        *to++ = sum;
      }
    }
  }
  std::fill(out.begin(), out.end(), 0.0f);
  const int64_t row_values = width * channels;
  for (int64_t y = 0; y < height; ++y) {
    const Mean& mean = rows[static_cast<size_t>(y)];
    float* to = &out[static_cast<size_t>(y * row_values)];
    for (size_t k = 0; k < mean.weights.size(); ++k) {
      const float weight = mean.weights[k];
      const float* from = &narrow[static_cast<size_t>((mean.first - first_row + static_cast<int64_t>(k)) * row_values)];
      for (int64_t x = 0; x < row_values; ++x) to[x] += weight * from[x];
    }
  }
}

Image CoverAndCrop(const Image& image, int64_t height, int64_t width) {
  // Pixels of the picture to a pixel of the result.
  const double scale = std::min(static_cast<double>(image.height) / static_cast<double>(height),
                                static_cast<double>(image.width) / static_cast<double>(width));
  Window window = {.height = scale * static_cast<double>(height), .width = scale * static_cast<double>(width)};
  window.top = (static_cast<double>(image.height) - window.height) / 2;
  window.left = (static_cast<double>(image.width) - window.width) / 2;
  std::vector<float> values(static_cast<size_t>(height * width * image.channels));
  ResizeWindow({image.values, image.height, image.width, image.channels}, window, height, width, values);
  Image result = {.height = height, .width = width, .channels = image.channels, .values = {}};
  result.values.reserve(values.size());
  for (const float value : values) {
    result.values.push_back(static_cast<uint8_t>(std::clamp(value + 0.5f, 0.0f, 255.0f)));
  }
  return result;
}

}  // namespace trefoil
