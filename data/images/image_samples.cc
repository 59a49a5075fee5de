#include "data/images/image_samples.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "data/images/augment.h"
#include "data/images/image_patches.h"
#include "data/images/resize.h"
#include "runtime/random.h"

namespace trefoil {
namespace {

template <typename... Parts>
absl::Status Bad(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

struct Size {
  int64_t height, width;
};

Size PatchedSize(const ImageFormat& format, const ImageOptions& options) {
  if (options.image_size == 0) return {format.height, format.width};
  return {options.image_size, options.image_size};
}

absl::Status CheckSizes(const ImageFormat& format, const std::string& path, const ImageOptions& options) {
  const auto [height, width] = PatchedSize(format, options);
  if (options.image_size < 0 || options.image_size > ImageFormat::kLargestSide) {
    return Bad("image_size: ", options.image_size, " is not in [1, ", ImageFormat::kLargestSide,
               "]; 0 takes that of the files, ", format.height, " x ", format.width);
  }
  const int64_t patch = options.patch_size;
  if (patch < 1 || height % patch != 0 || width % patch != 0) {
    std::vector<int64_t> nearest;
    for (int64_t p = 1; p <= std::min(height, width); ++p) {
      if (height % p != 0 || width % p != 0) continue;
      if (p < patch) nearest = {p};
      if (p > patch) {
        nearest.push_back(p);
        break;
      }
    }
    return Bad("patch_size: ", patch, " does not divide images of ", height, " x ", width,
               options.image_size == 0 ? absl::StrCat(", the size of ", path) : "",
               "; nearest: ", absl::StrJoin(nearest, ", "));
  }
  const int64_t room = options.crop == ImageOptions::Crop::kPadded ? 2 * options.padding : 0;
  if (options.crop == ImageOptions::Crop::kPadded && options.padding < 0) {
    return Bad("padding: ", options.padding, " is negative; nearest: 0");
  }
  if (options.crop != ImageOptions::Crop::kScaled && (height > format.height + room || width > format.width + room)) {
    return Bad("image_size: ", options.image_size, " is more than ", path, " has, ", format.height, " x ",
               format.width, room > 0 ? absl::StrCat(" and ", options.padding, " of padding on each side") : "",
               "; nearest: ", std::min(format.height, format.width) + room,
               ", or write larger images with `trefoil images`");
  }
  return absl::OkStatus();
}

absl::Status CheckNumbers(const ImageFormat& format, const ImageOptions& options) {
  if (!(options.least_area > 0 && options.least_area <= options.most_area && options.most_area <= 1)) {
    return Bad("least_area and most_area: ", options.least_area, " and ", options.most_area,
               "; both are in (0, 1], the first no more than the second");
  }
  for (const auto& [name, numbers] : {std::pair("mean", &options.mean), {"deviation", &options.deviation}}) {
    const auto count = static_cast<int64_t>(numbers->size());
    if (count != 1 && count != format.channels) {
      return Bad(name, ": ", count, " numbers; images of ", format.channels, " channels take ", format.channels,
                 ", or one for all");
    }
    for (const double number : *numbers) {
      if (!std::isfinite(number)) return Bad(name, ": ", number, " is no finite number");
    }
  }
  for (const double number : options.deviation) {
    if (number <= 0) return Bad("deviation: ", number, " must be above 0");
  }
  return absl::OkStatus();
}

absl::Status CheckMasks(int64_t patches, double share) {
  if (!(share >= 0 && share < 1)) return Bad("mask_share: ", share, " is outside [0, 1)");
  const int64_t hidden = HiddenPatches(patches, share);
  if (share > 0 && (hidden < 1 || hidden >= patches)) {
    return Bad("mask_share: ", share, " of ", patches, " patches hides ", hidden,
               "; at least one is hidden and one is seen");
  }
  return absl::OkStatus();
}

absl::Status CheckLabels(const ImageSet& set, int64_t classes) {
  if (classes < 0) return Bad("classes: ", classes, " is negative; 0 takes those of the files");
  if (classes == 0 || static_cast<int64_t>(set.format().classes.size()) <= classes) return absl::OkStatus();
  for (int64_t i = 0; i < set.images(); ++i) {
    if (set.label(i) < classes) continue;
    return Bad("classes: ", classes, ", but ", set.Describe(i), " has label ", set.label(i), " (\"",
               set.format().classes[static_cast<size_t>(set.label(i))], "\"); labels are below the number of classes; ",
               "these files have ", set.format().classes.size());
  }
  return absl::OkStatus();
}

// The first `count` images of rounds in which each class gives one, in an order of its own.
std::vector<int64_t> ChooseBalanced(const ImageSet& set, int64_t count, uint64_t seed) {
  std::vector<std::vector<int64_t>> of_class(set.format().classes.size());
  for (int64_t i = 0; i < set.images(); ++i) of_class[static_cast<size_t>(set.label(i))].push_back(i);
  std::vector<int64_t> chosen;
  for (int64_t round = 0; static_cast<int64_t>(chosen.size()) < count; ++round) {
    for (size_t c = 0; c < of_class.size() && static_cast<int64_t>(chosen.size()) < count; ++c) {
      const auto size = static_cast<int64_t>(of_class[c].size());
      if (round >= size) continue;
      const Sampler order(size, RandomKey(seed, absl::StrCat("image.class.", c)));
      chosen.push_back(of_class[c][static_cast<size_t>(order.Index(round))]);
    }
  }
  return chosen;
}

// Mean 0 and, but for patches of one colour, deviation 1.
void Standardise(std::span<float> patch) {
  double mean = 0, squares = 0;
  for (const float value : patch) mean += value;
  mean /= static_cast<double>(patch.size());
  for (const float value : patch) squares += (value - mean) * (value - mean);
  const double variance = squares / static_cast<double>(std::max<size_t>(patch.size() - 1, 1));
  for (float& value : patch) value = static_cast<float>((value - mean) / std::sqrt(variance + 1e-6));
}

}  // namespace

int64_t HiddenPatches(int64_t patches, double share) {
  return std::llround(static_cast<double>(patches) * share);
}

absl::Status ImageSamples::Check(const ImageSet& set, const ImageOptions& options) {
  const ImageFormat& format = set.format();
  TREFOIL_RETURN_IF_ERROR(CheckSizes(format, set.files().front().path(), options));
  TREFOIL_RETURN_IF_ERROR(CheckNumbers(format, options));
  const auto [height, width] = PatchedSize(format, options);
  TREFOIL_RETURN_IF_ERROR(
      CheckMasks((height / options.patch_size) * (width / options.patch_size), options.mask_share));
  TREFOIL_RETURN_IF_ERROR(CheckLabels(set, options.classes));
  if (options.images < 0 || options.images > set.images()) {
    return Bad("images: ", options.images, " of ", set.images(), "; 0 takes all, nearest: ",
               options.images < 0 ? 0 : set.images());
  }
  return absl::OkStatus();
}

ImageSamples::ImageSamples(ImageSet set, const ImageOptions& options, uint64_t seed, std::vector<int64_t> chosen)
    : set_(std::move(set)),
      options_(options),
      seed_(seed),
      chosen_(std::move(chosen)),
      sampler_(chosen_.empty() ? set_.images() : static_cast<int64_t>(chosen_.size()), seed) {
  const Size size = PatchedSize(set_.format(), options_);
  height_ = size.height;
  width_ = size.width;
  hidden_ = HiddenPatches(patches(), options_.mask_share);
}

absl::StatusOr<std::unique_ptr<ImageSamples>> ImageSamples::Open(const std::vector<std::string>& globs,
                                                                 const ImageOptions& options, uint64_t seed,
                                                                 FileSystem& fs) {
  TREFOIL_ASSIGN_OR_RETURN(ImageSet set, ImageSet::Open(globs, fs));
  TREFOIL_RETURN_IF_ERROR(Check(set, options));
  std::vector<int64_t> chosen = ChooseBalanced(set, options.images, options.images_seed);
  return std::unique_ptr<ImageSamples>(new ImageSamples(std::move(set), options, seed, std::move(chosen)));
}

int64_t ImageSamples::Image(int64_t k) const {
  const int64_t index = sampler_.Index(k);
  return chosen_.empty() ? index : chosen_[static_cast<size_t>(index)];
}

absl::StatusOr<std::vector<float>> ImageSamples::Pixels(int64_t k) const {
  const ImageFormat& format = set_.format();
  const int64_t channels = format.channels;
  std::vector<uint8_t> stored(static_cast<size_t>(format.bytes()));
  TREFOIL_RETURN_IF_ERROR(set_.Read(Image(k), stored));
  const ImageView view = {stored, format.height, format.width, channels};
  std::vector<float> pixels(static_cast<size_t>(height_ * width_ * channels));  // black
  if (options_.crop == ImageOptions::Crop::kScaled) {
    const Window window =
        RandomWindow(seed_, k, format.height, format.width, options_.least_area, options_.most_area);
    ResizeWindow(view, window, height_, width_, pixels);
  } else {
    Corner corner = {.top = (format.height - height_) / 2, .left = (format.width - width_) / 2};
    if (options_.crop == ImageOptions::Crop::kPadded) {
      corner = RandomCorner(seed_, k, view, options_.padding, height_, width_);
    }
    const int64_t first = std::max<int64_t>(-corner.left, 0), last = std::min(width_, format.width - corner.left);
    for (int64_t y = 0; y < height_; ++y) {
      const int64_t row = corner.top + y;
      if (row < 0 || row >= format.height || first >= last) continue;
      const auto from = stored.begin() + (row * format.width + corner.left + first) * channels;
      std::copy(from, from + (last - first) * channels, pixels.begin() + (y * width_ + first) * channels);
    }
  }
  Normalise(pixels, channels, options_.mean, options_.deviation);
  if (options_.flip && RandomFlip(seed_, k)) {
    for (int64_t y = 0; y < height_; ++y) {
      float* row = &pixels[static_cast<size_t>(y * width_ * channels)];
      for (int64_t x = 0; x < width_ / 2; ++x) {
        std::swap_ranges(row + x * channels, row + (x + 1) * channels, row + (width_ - 1 - x) * channels);
      }
    }
  }
  return pixels;
}

absl::StatusOr<Batch> ImageSamples::Get(int64_t first_sample, int64_t count) const {
  CHECK_GE(first_sample, 0);
  CHECK_GE(count, 0);
  const int64_t width = patch_values(), class_tokens = options_.class_token ? 1 : 0;
  Batch batch{.samples = count, .length = length(), .first_sample = first_sample};
  batch.patches = HostTensor::Zeros(DType::kFloat32, {count, length(), width});
  batch.patch_places = HostTensor::Zeros(DType::kInt32, {count, length()});
  batch.places = HostTensor::Zeros(DType::kInt32, {count, targets()});
  if (hidden_ > 0) {
    batch.values = HostTensor::Zeros(DType::kFloat32, {count, targets(), width});
  } else {
    batch.targets = HostTensor::Zeros(DType::kInt32, {count, targets()});
  }
  for (int64_t row = 0; row < count; ++row) {
    const int64_t k = first_sample + row;
    TREFOIL_ASSIGN_OR_RETURN(const std::vector<float> pixels, Pixels(k));
    const PixelView view = {.pixels = pixels, .width = width_, .channels = set_.format().channels};
    const std::vector<int32_t> visible = RandomPatches(seed_, k, patches(), patches() - hidden_);
    float* patch = batch.patches.values<float>().data() + (row * length() + class_tokens) * width;
    int32_t* patch_place = batch.patch_places.values<int32_t>().data() + row * length() + class_tokens;
    for (const int32_t n : visible) {
      CopyPatch(view, options_.patch_size, n, patch);
      patch += width;
      *patch_place++ = 1 + n;
    }
    if (hidden_ == 0) {
      batch.targets.values<int32_t>()[static_cast<size_t>(row)] = set_.label(Image(k));
      continue;
    }
    float* value = batch.values.values<float>().data() + row * targets() * width;
    int32_t* place = batch.places.values<int32_t>().data() + row * targets();
    for (int32_t n = 0, seen = 0; n < patches(); ++n) {
      if (seen < static_cast<int32_t>(visible.size()) && visible[static_cast<size_t>(seen)] == n) {
        ++seen;
        continue;
      }
      CopyPatch(view, options_.patch_size, n, value);
      Standardise({value, static_cast<size_t>(width)});
      value += width;
      *place++ = 1 + n;
    }
  }
  return batch;
}

}  // namespace trefoil
