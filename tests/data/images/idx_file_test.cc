#include "data/images/idx_file.h"

#include <gtest/gtest.h>

#include "tests/data/images/image_testing.h"

namespace trefoil {
namespace {

class IdxFile : public testing::Test {
 protected:
  absl::StatusOr<IdxPair> Read(const std::string& images, const std::string& labels) {
    WriteContent(folder_ + "/images", images);
    WriteContent(folder_ + "/labels", labels);
    return ReadIdxPair(folder_ + "/images", folder_ + "/labels");
  }

  const std::string folder_ = TestFolder();
  const std::vector<LabelledImage> some_ = {{{0, 255, 1, 2, 3, 4}, 7}, {{5, 6, 7, 8, 9, 10}, 0}};
};

TEST_F(IdxFile, ReadsGoldenBytes) {
  auto pair = Read(FromHex("00000803 00000001 00000001 00000002 00ff"), FromHex("00000801 00000001 07"));
  ASSERT_TRUE(pair.ok()) << pair.status();
  EXPECT_EQ(pair->height, 1);
  EXPECT_EQ(pair->width, 2);
  EXPECT_EQ(pair->labels, (std::vector<uint8_t>{7}));
  EXPECT_EQ(pair->values, FromHex("00ff"));
}

TEST_F(IdxFile, CompressedOrNot) {
  WriteContent(folder_ + "/images.gz", Gzip(IdxImages(2, 3, some_)));
  WriteContent(folder_ + "/labels", IdxLabels(some_));
  auto pair = ReadIdxPair(folder_ + "/images.gz", folder_ + "/labels");
  ASSERT_TRUE(pair.ok()) << pair.status();
  ASSERT_EQ(pair->labels, (std::vector<uint8_t>{7, 0}));
  for (int64_t i = 0; i < 2; ++i) {
    const auto image = pair->Image(i);
    EXPECT_EQ(std::vector<uint8_t>(image.begin(), image.end()), some_[i].values) << i;
  }
  WriteContent(folder_ + "/images.gz", Gzip(IdxImages(2, 3, some_)).substr(0, 30));
  ExpectError(ReadIdxPair(folder_ + "/images.gz", folder_ + "/labels").status(), {"images.gz", "cut short"});
}

TEST_F(IdxFile, BrokenFilesAreExplained) {
  const std::string images = IdxImages(2, 3, some_), labels = IdxLabels(some_);
  ExpectError(Read(labels, labels).status(),
              {"/images: begins with bytes 00000801", "images begins with 00000803", "interchanged"});
  ExpectError(Read(images, images).status(), {"/labels: begins with bytes 00000803", "labels begins with 00000801"});
  ExpectError(Read("PNG..", labels).status(), {"/images: begins with bytes 504e472e"});
  for (size_t n = 0; n < images.size(); ++n) {
    ExpectError(Read(images.substr(0, n), labels).status(), {"/images: truncated: " + std::to_string(n) + " bytes"});
  }
  for (size_t n = 0; n < labels.size(); ++n) {
    ExpectError(Read(images, labels.substr(0, n)).status(), {"/labels: truncated: " + std::to_string(n) + " bytes"});
  }
  ExpectError(Read(images + "x", labels).status(), {"/images: 29 bytes; 2 images make 28"});
  ExpectError(Read(images, IdxLabels({some_[0]})).status(), {"/labels: 1 labels", "/images has 2 images"});
  ExpectError(Read(IdxImages(2, 3, {}), labels).status(), {"/images: holds 0 images"});
  ExpectError(Read(IdxImages(0, 3, some_), labels).status(), {"/images: images with a side of 0", "1 to 16384"});
  ExpectError(Read(FromHex("00000803 ffffffff 7fffffff 7fffffff 00"), labels).status(), {"a side of 2147483647"});
}

}  // namespace
}  // namespace trefoil
