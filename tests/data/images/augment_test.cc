#include "data/images/augment.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace trefoil {
namespace {

std::vector<double> Numbers(const Window& window) { return {window.top, window.left, window.height, window.width}; }

// Changing these changes every resumed run. Computed besides from the definitions in Python.
TEST(Augment, ValuesAreFrozen) {
  EXPECT_EQ(Numbers(RandomWindow(7, 0, 256, 256, 0.08, 1)), (std::vector<double>{0, 13, 220, 211}));
  EXPECT_EQ(Numbers(RandomWindow(7, 1, 256, 256, 0.08, 1)), (std::vector<double>{19, 17, 205, 235}));
  EXPECT_EQ(Numbers(RandomWindow(7, 1000000007, 28, 28, 0.2, 1)), (std::vector<double>{0, 0, 26, 26}));
  const ImageView image = {.values = {}, .height = 28, .width = 28, .channels = 1};
  const Corner corner = RandomCorner(7, 3, image, 4, 28, 28);
  EXPECT_EQ((std::vector<int64_t>{corner.top, corner.left}), (std::vector<int64_t>{-4, 0}));
  std::string flips;
  for (int64_t sample = 0; sample < 16; ++sample) flips += RandomFlip(7, sample) ? '1' : '0';
  EXPECT_EQ(flips, "1000111001011010");
  EXPECT_EQ(RandomPatches(7, 0, 49, 12), (std::vector<int32_t>{0, 1, 7, 8, 20, 21, 22, 28, 30, 35, 43, 47}));
  EXPECT_EQ(RandomPatches(7, 1, 49, 12), (std::vector<int32_t>{1, 2, 7, 8, 12, 13, 21, 23, 31, 32, 33, 42}));
}

TEST(Augment, WindowsAreInsideAndAsLargeAsAsked) {
  double areas = 0;
  constexpr int64_t kSamples = 4000;
  for (int64_t sample = 0; sample < kSamples; ++sample) {
    const Window window = RandomWindow(1, sample, 300, 200, 0.2, 0.6);
    EXPECT_GE(window.top, 0);
    EXPECT_GE(window.left, 0);
    EXPECT_LE(window.top + window.height, 300);
    EXPECT_LE(window.left + window.width, 200);
    const double area = window.height * window.width / (300 * 200), ratio = window.width / window.height;
    EXPECT_GT(area, 0.195);  // sides are rounded
    EXPECT_LT(area, 0.605);
    EXPECT_GT(ratio, 0.74);
    EXPECT_LT(ratio, 1.36);
    areas += area;
  }
  EXPECT_NEAR(areas / kSamples, 0.4, 0.01);
}

TEST(Augment, AWindowThatNeverFitsIsTheMiddle) {
  EXPECT_EQ(Numbers(RandomWindow(1, 0, 10, 1000, 1, 1)), (std::vector<double>{0, 493, 10, 13}));
  EXPECT_EQ(Numbers(RandomWindow(1, 0, 1000, 9, 1, 1)), (std::vector<double>{494, 0, 12, 9}));
  EXPECT_EQ(Numbers(RandomWindow(1, 0, 1, 1, 0.01, 0.02)), (std::vector<double>{0, 0, 1, 1}));
}

TEST(Augment, CornersReachAllPlaces) {
  const ImageView image = {.values = {}, .height = 5, .width = 8, .channels = 1};
  std::set<int64_t> tops, lefts;
  for (int64_t sample = 0; sample < 200; ++sample) {
    const Corner corner = RandomCorner(1, sample, image, 2, 5, 6);
    tops.insert(corner.top);
    lefts.insert(corner.left);
  }
  EXPECT_EQ(tops, (std::set<int64_t>{-2, -1, 0, 1, 2}));
  EXPECT_EQ(lefts, (std::set<int64_t>{-2, -1, 0, 1, 2, 3, 4}));
}

TEST(Augment, HalfIsMirrored) {
  int64_t mirrored = 0;
  for (int64_t sample = 0; sample < 10000; ++sample) mirrored += RandomFlip(3, sample);
  EXPECT_NEAR(mirrored, 5000, 200);  // four deviations
}

TEST(Augment, EveryPatchIsAsLikely) {
  constexpr int64_t kPatches = 50, kVisible = 13, kSamples = 20000;
  std::vector<int64_t> seen(kPatches);
  for (int64_t sample = 0; sample < kSamples; ++sample) {
    const std::vector<int32_t> visible = RandomPatches(1, sample, kPatches, kVisible);
    ASSERT_EQ(visible.size(), size_t{kVisible});
    for (size_t i = 0; i < visible.size(); ++i) {
      ASSERT_TRUE(i == 0 || visible[i] > visible[i - 1]) << "ascending, each once";
      ++seen[static_cast<size_t>(visible[i])];
    }
  }
  const double share = static_cast<double>(kVisible) / kPatches;
  const double deviation = std::sqrt(kSamples * share * (1 - share));
  for (const int64_t count : seen) EXPECT_NEAR(static_cast<double>(count), kSamples * share, 4.5 * deviation);
  EXPECT_EQ(RandomPatches(1, 5, 3, 3), (std::vector<int32_t>{0, 1, 2}));
}

}  // namespace
}  // namespace trefoil
