#include "data/images/image_patches.h"

namespace trefoil {

void Normalise(std::span<float> pixels, int64_t channels, const std::vector<double>& mean,
               const std::vector<double>& deviation) {
  const auto of_channel = [](const std::vector<double>& numbers, int64_t c) {
    return numbers.size() == 1 ? numbers[0] : numbers[static_cast<size_t>(c)];
  };
  for (int64_t c = 0; c < channels; ++c) {
    const double m = of_channel(mean, c), d = of_channel(deviation, c);
    const auto scale = static_cast<float>(1 / (255 * d)), shift = static_cast<float>(-m / d);
    for (size_t i = static_cast<size_t>(c); i < pixels.size(); i += static_cast<size_t>(channels)) {
      pixels[i] = pixels[i] * scale + shift;
    }
  }
}

void CopyPatch(const PixelView& view, int64_t size, int64_t n, float* out) {
  const int64_t per_row = view.width / size, top = n / per_row * size, left = n % per_row * size;
  for (int64_t c = 0; c < view.channels; ++c) {
    for (int64_t y = 0; y < size; ++y) {
      for (int64_t x = 0; x < size; ++x) {
        *out++ = view.pixels[static_cast<size_t>(((top + y) * view.width + left + x) * view.channels + c)];
      }
    }
  }
}

}  // namespace trefoil
