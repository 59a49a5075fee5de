#include "data/images/augment.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "runtime/random.h"

namespace trefoil {
namespace {

constexpr double kLeastRatio = 3.0 / 4, kMostRatio = 4.0 / 3;  // width to height
constexpr uint64_t kDraws = 10;

// Uniform in 0, 1 .. count - 1, for count <= 2^32 (Lemire, "Fast random integer generation in an interval", 2019,
// without its rejection).
int64_t Below(uint32_t bits, int64_t count) { return static_cast<int64_t>(bits * static_cast<uint64_t>(count) >> 32); }

double Between(uint32_t bits, double low, double high) { return low + (high - low) * double{Uniform(bits)}; }

}  // namespace

Window RandomWindow(uint64_t seed, int64_t sample, int64_t height, int64_t width, double least_area,
                    double most_area) {
  const uint64_t key = RandomKey(seed, "image.window");
  const double area = static_cast<double>(height) * static_cast<double>(width);
  for (uint64_t draw = 0; draw < kDraws; ++draw) {
    const PhiloxBlock bits = Philox(key, static_cast<uint64_t>(sample), draw);
    const double part = area * Between(bits[0], least_area, most_area);
    const double ratio = std::exp(Between(bits[1], std::log(kLeastRatio), std::log(kMostRatio)));
    const int64_t h = std::llround(std::sqrt(part / ratio)), w = std::llround(std::sqrt(part * ratio));
    if (h < 1 || w < 1 || h > height || w > width) continue;
    return {.top = static_cast<double>(Below(bits[2], height - h + 1)),
            .left = static_cast<double>(Below(bits[3], width - w + 1)),
            .height = static_cast<double>(h),
            .width = static_cast<double>(w)};
  }
  Window window = {.height = static_cast<double>(height), .width = static_cast<double>(width)};
  window.width = std::min(window.width, std::round(window.height * kMostRatio));
  window.height = std::min(window.height, std::round(window.width / kLeastRatio));
  window.top = std::floor((static_cast<double>(height) - window.height) / 2);
  window.left = std::floor((static_cast<double>(width) - window.width) / 2);
  return window;
}

Corner RandomCorner(uint64_t seed, int64_t sample, const ImageView& image, int64_t padding, int64_t height,
                    int64_t width) {
  const int64_t rows = image.height + 2 * padding - height + 1, columns = image.width + 2 * padding - width + 1;
  CHECK(rows >= 1 && columns >= 1) << height << " x " << width << " of " << image.height << " x " << image.width;
  const PhiloxBlock bits = Philox(RandomKey(seed, "image.window"), static_cast<uint64_t>(sample));
  return {.top = Below(bits[2], rows) - padding, .left = Below(bits[3], columns) - padding};
}

bool RandomFlip(uint64_t seed, int64_t sample) {
  return Philox(RandomKey(seed, "image.flip"), static_cast<uint64_t>(sample))[0] >> 31 != 0;
}

// The first steps of the Fisher-Yates shuffle (Durstenfeld 1964).
std::vector<int32_t> RandomPatches(uint64_t seed, int64_t sample, int64_t patches, int64_t count) {
  CHECK(count >= 0 && count <= patches) << count << " of " << patches;
  const uint64_t key = RandomKey(seed, "image.patches");
  std::vector<int32_t> order(static_cast<size_t>(patches));
  std::iota(order.begin(), order.end(), 0);
  PhiloxBlock bits = {};
  for (int64_t i = 0; i < count; ++i) {
    const auto lane = static_cast<size_t>(i % 4);
    if (lane == 0) bits = Philox(key, static_cast<uint64_t>(sample), static_cast<uint64_t>(i / 4));
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(i + Below(bits[lane], patches - i))]);
  }
  order.resize(static_cast<size_t>(count));
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace trefoil
