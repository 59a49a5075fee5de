#include "data/images/image_samples.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "data/images/augment.h"
#include "tests/data/images/image_testing.h"

namespace trefoil {
namespace {

using Crop = ImageOptions::Crop;

constexpr uint64_t kSeed = 7;

// Five images of 4 x 6 in colour, in two files; image i has label i % 3.
class ImageSamplesTest : public testing::Test {
 protected:
  void SetUp() override {
    for (size_t i = 0; i < 5; ++i) {
      LabelledImage image = {.values = {}, .label = static_cast<int32_t>(i % 3)};
      for (size_t k = 0; k < 4 * 6 * 3; ++k) image.values.push_back(static_cast<uint8_t>(i * 50 + k * k));
      images_.push_back(image);
    }
    WriteImageFile(folder_ + "/a-0.images", format_, {images_[0], images_[1]});
    WriteImageFile(folder_ + "/a-1.images", format_, {images_[2], images_[3], images_[4]});
  }

  std::unique_ptr<ImageSamples> Open(const ImageOptions& options, uint64_t seed = kSeed) {
    auto samples = ImageSamples::Open({folder_ + "/a-*"}, options, seed);
    EXPECT_TRUE(samples.ok()) << samples.status();
    return *std::move(samples);
  }

  absl::Status Failure(const ImageOptions& options) {
    return ImageSamples::Open({folder_ + "/a-*"}, options, kSeed).status();
  }

  // Value of a pixel of image i, black outside.
  double Value(int64_t i, int64_t y, int64_t x, int64_t c) const {
    if (y < 0 || y >= 4 || x < 0 || x >= 6) return 0;
    return images_[static_cast<size_t>(i)].values[static_cast<size_t>((y * 6 + x) * 3 + c)];
  }

  const std::string folder_ = TestFolder();
  const ImageFormat format_ = {.height = 4, .width = 6, .channels = 3, .classes = {"a", "b", "c"}};
  std::vector<LabelledImage> images_;
};

TEST_F(ImageSamplesTest, PatchesAreThoseOfAConvolutionRowByRow) {
  for (const bool class_token : {true, false}) {
    const auto samples =
        Open({.patch_size = 2, .class_token = class_token, .mean = {0.1, 0.2, 0.3}, .deviation = {0.5, 0.6, 0.7}});
    const int64_t first = class_token ? 1 : 0, tokens = 6 + first;
    EXPECT_EQ(samples->samples(), 5);
    EXPECT_EQ(samples->length(), tokens);
    EXPECT_EQ(samples->patch_values(), 12);
    EXPECT_FALSE(samples->weighted());
    auto batch = samples->Get(3, 4);
    ASSERT_TRUE(batch.ok()) << batch.status();
    EXPECT_EQ(batch->samples, 4);
    EXPECT_EQ(batch->length, tokens);
    EXPECT_EQ(batch->first_sample, 3);
    EXPECT_EQ(batch->patches.shape(), Shape({4, tokens, 12}));
    EXPECT_EQ(batch->patch_places.shape(), Shape({4, tokens}));
    EXPECT_EQ(batch->targets.shape(), Shape({4, 1}));
    EXPECT_EQ(batch->places.values<int32_t>(), (std::vector<int32_t>{0, 0, 0, 0}));
    EXPECT_FALSE(batch->inputs.defined() || batch->values.defined() || batch->weights.defined());
    const double mean[] = {0.1, 0.2, 0.3}, deviation[] = {0.5, 0.6, 0.7};
    for (int64_t b = 0; b < 4; ++b) {
      const int64_t image = samples->Image(3 + b);
      EXPECT_EQ(batch->targets.values<int32_t>()[b], image % 3);
      for (int64_t t = 0; t < tokens; ++t) {
        EXPECT_EQ(batch->patch_places.values<int32_t>()[b * tokens + t], t + 1 - first);
        for (int64_t p = 0; p < 12; ++p) {
          const int64_t n = t - first, c = p / 4, y = p / 2 % 2, x = p % 2;
          const double value = Value(image, n / 3 * 2 + y, n % 3 * 2 + x, c);
          const double expected = n < 0 ? 0 : (value / 255 - mean[c]) / deviation[c];
          EXPECT_NEAR(batch->patches.values<float>()[(b * tokens + t) * 12 + p], expected, 1e-5);
        }
      }
    }
  }
}

TEST_F(ImageSamplesTest, ASampleIsAFunctionOfItsNumber) {
  const ImageOptions options = {
      .image_size = 4, .patch_size = 2, .crop = Crop::kScaled, .flip = true, .mask_share = 0.5};
  const auto samples = Open(options);
  const Batch all = *samples->Get(0, 20);
  std::map<int64_t, int> uses;
  for (int64_t k = 0; k < 20; ++k) {
    ++uses[samples->Image(k)];
    const Batch one = *Open(options)->Get(k, 1);
    const auto equal = [&](const HostTensor& row, const HostTensor& rows, auto type) {
      using T = decltype(type);
      const auto n = static_cast<int64_t>(row.values<T>().size());
      return std::equal(row.values<T>().begin(), row.values<T>().end(), rows.values<T>().begin() + k * n);
    };
    EXPECT_TRUE(equal(one.patches, all.patches, 0.0f)) << k;
    EXPECT_TRUE(equal(one.patch_places, all.patch_places, 0)) << k;
    EXPECT_TRUE(equal(one.values, all.values, 0.0f)) << k;
    EXPECT_TRUE(equal(one.places, all.places, 0)) << k;
  }
  for (const auto& [image, count] : uses) EXPECT_EQ(count, 4) << image << ": once an epoch";
  EXPECT_NE(Open(options, kSeed + 1)->Get(0, 20)->patches.values<float>(), all.patches.values<float>());
}

// Pixels of one channel as one patch: what crops and flips leave.
TEST_F(ImageSamplesTest, CropsAndFlips) {
  const auto expect = [&](const ImageOptions& options, const auto& value, double slack) {
    const auto samples = Open(options);
    const auto size = options.image_size;
    for (int64_t k = 0; k < 12; ++k) {
      const Batch batch = *samples->Get(k, 1);
      for (int64_t c = 0; c < 3; ++c) {
        for (int64_t y = 0; y < size; ++y) {
          for (int64_t x = 0; x < size; ++x) {
            const int64_t from = options.flip && RandomFlip(kSeed, k) ? size - 1 - x : x;
            EXPECT_NEAR(batch.patches.values<float>()[(c * size + y) * size + x],
                        value(samples->Image(k), k, y, from, c) / 255, slack)
                << k;
          }
        }
      }
    }
  };
  ImageOptions options = {.image_size = 3, .patch_size = 3, .class_token = false, .mean = {0}, .deviation = {1}};
  const auto centre = [&](int64_t i, int64_t, int64_t y, int64_t x, int64_t c) { return Value(i, y, x + 1, c); };
  expect(options, centre, 1e-6);
  options.flip = true;
  expect(options, centre, 1e-6);
  options.crop = Crop::kPadded;
  options.padding = 2;
  options.image_size = options.patch_size = 5;
  expect(options,
         [&](int64_t i, int64_t k, int64_t y, int64_t x, int64_t c) {
           const ImageView view = {.values = {}, .height = 4, .width = 6, .channels = 3};
           const Corner corner = RandomCorner(kSeed, k, view, 2, 5, 5);
           return Value(i, corner.top + y, corner.left + x, c);
         },
         1e-6);
  options.crop = Crop::kScaled;
  options.least_area = 0.3;
  options.most_area = 0.9;
  expect(options,
         [&](int64_t i, int64_t k, int64_t y, int64_t x, int64_t c) {
           const Window window = RandomWindow(kSeed, k, 4, 6, 0.3, 0.9);
           std::vector<float> out(5 * 5 * 3);
           ResizeWindow({images_[i].values, 4, 6, 3}, window, 5, 5, out);
           return double{out[(y * 5 + x) * 3 + c]};
         },
         1e-6);
}

TEST_F(ImageSamplesTest, HiddenPatchesAreTargets) {
  const auto samples = Open({.patch_size = 2, .mask_share = 0.6});  // 3.6 of 6: 4
  EXPECT_EQ(samples->length(), 1 + 2);
  EXPECT_EQ(samples->targets(), 4);
  const Batch batch = *samples->Get(0, 8);
  const Batch whole = *Open({.patch_size = 2})->Get(0, 8);
  EXPECT_EQ(batch.patches.shape(), Shape({8, 3, 12}));
  EXPECT_EQ(batch.values.shape(), Shape({8, 4, 12}));
  EXPECT_EQ(batch.places.shape(), Shape({8, 4}));
  EXPECT_FALSE(batch.targets.defined());
  const auto& patches = whole.patches.values<float>();
  std::set<std::vector<int32_t>> choices;
  for (int64_t b = 0; b < 8; ++b) {
    std::vector<int32_t> visible, hidden;
    for (int64_t t = 0; t < 3; ++t) visible.push_back(batch.patch_places.values<int32_t>()[b * 3 + t]);
    for (int64_t u = 0; u < 4; ++u) hidden.push_back(batch.places.values<int32_t>()[b * 4 + u]);
    std::vector<int32_t> expected = {0};
    for (const int32_t n : RandomPatches(kSeed, b, 6, 2)) expected.push_back(1 + n);
    EXPECT_EQ(visible, expected);
    EXPECT_TRUE(std::is_sorted(hidden.begin(), hidden.end()));
    std::set<int32_t> both(visible.begin(), visible.end());
    both.insert(hidden.begin(), hidden.end());
    EXPECT_EQ(both.size(), 7u);
    for (int64_t t = 0; t < 3; ++t) {
      for (int64_t p = 0; p < 12; ++p) {
        EXPECT_EQ(batch.patches.values<float>()[(b * 3 + t) * 12 + p], patches[(b * 7 + visible[t]) * 12 + p]);
      }
    }
    for (int64_t u = 0; u < 4; ++u) {
      const float* patch = &patches[(b * 7 + hidden[u]) * 12];
      double mean = 0, variance = 0;
      for (int p = 0; p < 12; ++p) mean += patch[p] / 12.0;
      for (int p = 0; p < 12; ++p) variance += (patch[p] - mean) * (patch[p] - mean) / 11;
      for (int p = 0; p < 12; ++p) {
        EXPECT_NEAR(batch.values.values<float>()[(b * 4 + u) * 12 + p], (patch[p] - mean) / std::sqrt(variance + 1e-6),
                    1e-5);
      }
    }
    choices.insert(visible);
  }
  EXPECT_GT(choices.size(), 3u);
}

TEST_F(ImageSamplesTest, APatchOfOneColourIsZero) {
  WriteImageFile(folder_ + "/black.images", {.height = 2, .width = 4, .channels = 1, .classes = {"a"}},
                 {{std::vector<uint8_t>(8), 0}});
  auto samples = ImageSamples::Open({folder_ + "/black"}, {.patch_size = 2, .mask_share = 0.5}, kSeed);
  ASSERT_TRUE(samples.ok()) << samples.status();
  EXPECT_EQ((*samples)->Get(0, 1)->values.values<float>(), (std::vector<float>(4, 0)));
}

TEST_F(ImageSamplesTest, FewImagesAreOfAllClasses) {
  std::vector<LabelledImage> many;
  const ImageFormat format = {.height = 1, .width = 1, .channels = 1, .classes = {"a", "b", "c"}};
  for (int i = 0; i < 100; ++i) many.push_back({{0}, i < 3 ? 2 : i % 2});  // 48 a, 49 b, 3 c
  WriteImageFile(folder_ + "/many.images", format, many);
  std::set<int64_t> before;
  const std::map<int64_t, std::vector<int64_t>> expected = {
      {1, {1, 0, 0}}, {3, {1, 1, 1}}, {8, {3, 3, 2}}, {20, {9, 8, 3}}, {99, {48, 48, 3}}, {100, {48, 49, 3}}};
  for (const auto& [count, classes] : expected) {
    ImageOptions options = {.patch_size = 1, .images = count};
    auto samples = ImageSamples::Open({folder_ + "/many"}, options, kSeed);
    ASSERT_TRUE(samples.ok()) << samples.status();
    EXPECT_EQ((*samples)->samples(), count);
    std::set<int64_t> chosen;
    std::vector<int64_t> of_class(3);
    for (int64_t k = 0; k < count; ++k) {
      chosen.insert((*samples)->Image(k));
      ++of_class[static_cast<size_t>((*samples)->set().label((*samples)->Image(k)))];
    }
    EXPECT_EQ(chosen.size(), static_cast<size_t>(count)) << "each once";
    EXPECT_TRUE(std::includes(chosen.begin(), chosen.end(), before.begin(), before.end())) << count;
    EXPECT_EQ(of_class, classes);
    before = chosen;
    options.images_seed = 2;
    if (count == 20) {
      auto others = ImageSamples::Open({folder_ + "/many"}, options, kSeed);
      std::set<int64_t> other;
      for (int64_t k = 0; k < count; ++k) other.insert((*others)->Image(k));
      EXPECT_NE(other, chosen);
    }
  }
  auto frozen = ImageSamples::Open({folder_ + "/many"}, {.patch_size = 1, .images = 6}, kSeed);
  std::vector<int64_t> order;
  for (int64_t k = 0; k < 6; ++k) order.push_back((*frozen)->Image(k));
  EXPECT_EQ(order, (std::vector<int64_t>{69, 0, 1, 57, 56, 94}));
}

TEST_F(ImageSamplesTest, BadOptionsAreExplained) {
  ExpectError(Failure({.patch_size = 3}),
              {"patch_size: 3 does not divide images of 4 x 6", "a-0.images", "nearest: 2"});
  ExpectError(Failure({.image_size = 12, .patch_size = 5, .crop = Crop::kScaled}),
              {"patch_size: 5 does not divide images of 12 x 12; nearest: 4, 6"});
  ExpectError(Failure({.patch_size = 0}), {"patch_size: 0", "nearest: 1"});
  ExpectError(Failure({.image_size = 5, .patch_size = 5}),
              {"image_size: 5 is more than ", "a-0.images has, 4 x 6;", "nearest: 4"});
  ExpectError(Failure({.image_size = 8, .patch_size = 8, .crop = Crop::kPadded, .padding = 1}),
              {"image_size: 8", "4 x 6 and 1 of padding on each side", "nearest: 6"});
  ExpectError(Failure({.image_size = -1}), {"image_size: -1", "[1, 16384]", "4 x 6"});
  ExpectError(Failure({.patch_size = 2, .crop = Crop::kPadded, .padding = -1}), {"padding: -1", "nearest: 0"});
  ExpectError(Failure({.patch_size = 2, .least_area = 0}), {"least_area and most_area: 0 and 1"});
  ExpectError(Failure({.patch_size = 2, .least_area = 0.5, .most_area = 0.4}), {"0.5 and 0.4"});
  ExpectError(Failure({.patch_size = 2, .mean = {0, 0}}), {"mean: 2 numbers; images of 3 channels take 3"});
  ExpectError(Failure({.patch_size = 2, .deviation = {0.5, 0, 1}}), {"deviation: 0 must be above 0"});
  ExpectError(Failure({.patch_size = 2, .mean = {NAN}}), {"mean: nan"});
  ExpectError(Failure({.patch_size = 2, .mask_share = 1}), {"mask_share: 1 is outside [0, 1)"});
  ExpectError(Failure({.patch_size = 2, .mask_share = 0.05}), {"mask_share: 0.05 of 6 patches hides 0"});
  ExpectError(Failure({.patch_size = 2, .mask_share = 0.95}), {"mask_share: 0.95 of 6 patches hides 6"});
  ExpectError(Failure({.patch_size = 2, .classes = 2}),
              {"classes: 2, but ", "a-1.images: image 0 has label 2 (\"c\")", "these files have 3"});
  EXPECT_TRUE(Failure({.patch_size = 2, .classes = 1000}).ok());
  ExpectError(Failure({.patch_size = 2, .images = 6}), {"images: 6 of 5", "nearest: 5"});
}

TEST_F(ImageSamplesTest, ADamagedImageIsAnErrorOfItsSample) {
  std::string content = Content(folder_ + "/a-0.images");
  content[content.size() - 10] ^= 1;  // in the second image
  WriteContent(folder_ + "/a-0.images", content);
  const auto samples = Open({.patch_size = 2});
  for (int64_t k = 0; k < 5; ++k) {
    const auto batch = samples->Get(k, 1);
    if (samples->Image(k) != 1) {
      EXPECT_TRUE(batch.ok());
    } else {
      ExpectError(batch.status(), {"a-0.images: image 1 is damaged"});
    }
  }
}

}  // namespace
}  // namespace trefoil
