#include "data/images/image_set.h"

#include <gtest/gtest.h>

#include "tests/data/images/image_testing.h"

namespace trefoil {
namespace {

const ImageFormat kFormat = {.height = 1, .width = 2, .channels = 1, .classes = {"cat", "dog"}};

class ImageSetTest : public testing::Test {
 protected:
  void SetUp() override {
    WriteImageFile(folder_ + "/train-00001.images", kFormat, {{{4, 5}, 0}});
    WriteImageFile(folder_ + "/train-00000.images", kFormat, {{{0, 1}, 1}, {{2, 3}, 0}});
  }

  const std::string folder_ = TestFolder();
};

TEST_F(ImageSetTest, FilesComeByPathHoweverTheyAreNamed) {
  const std::vector<std::vector<std::string>> ways = {
      {folder_ + "/train-*"}, {folder_ + "/train-*.images"}, {folder_ + "/train-00001", folder_ + "/train-0000?"}};
  for (const std::vector<std::string>& globs : ways) {
    auto set = ImageSet::Open(globs);
    ASSERT_TRUE(set.ok()) << set.status();
    ASSERT_EQ(set->images(), 3);
    EXPECT_EQ(set->files().size(), 2u);
    const int32_t labels[] = {1, 0, 0};
    for (int64_t i = 0; i < 3; ++i) {
      std::vector<uint8_t> image(2);
      ASSERT_TRUE(set->Read(i, image).ok());
      EXPECT_EQ(image[0], 2 * i);
      EXPECT_EQ(set->label(i), labels[i]);
    }
    EXPECT_EQ(set->Describe(2), folder_ + "/train-00001.images: image 0");
  }
}

TEST_F(ImageSetTest, WhatIsWrongIsSaid) {
  ExpectError(ImageSet::Open({folder_ + "/held_out-*"}).status(), {"/held_out-*.images: no image file matches"});
  ExpectError(ImageSet::Open({folder_ + "/absent"}).status(), {"/absent.images: no such file"});
  ExpectError(ImageSet::Open({}).status(), {"no image files named"});
  ImageFormat other = kFormat;
  other.classes = {"cat", "cow"};
  WriteImageFile(folder_ + "/train-00002.images", other, {{{6, 7}, 1}});
  ExpectError(ImageSet::Open({folder_ + "/train-*"}).status(),
              {"train-00002.images: images of 1 x 2 x 1 in 2 classes, but ", "train-00000.images has 1 x 2 x 1",
               "class 1 is \"cow\" here and \"dog\" there"});
  other = kFormat;
  other.height = 2;
  other.width = 1;
  WriteImageFile(folder_ + "/train-00002.images", other, {{{6, 7}, 1}});
  ExpectError(ImageSet::Open({folder_ + "/train-*"}).status(), {"images of 2 x 1 x 1", "has 1 x 2 x 1", "one size"});
}

}  // namespace
}  // namespace trefoil
