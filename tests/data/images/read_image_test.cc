#include "data/images/read_image.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/data/images/image_testing.h"

namespace trefoil {
namespace {

// Checks that the picture is decoded as `expected`, each value to `slack`.
void ExpectImage(const std::string& content, const Image& expected, int slack) {
  auto image = DecodeImage("x", content, expected.channels);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->height, expected.height);
  EXPECT_EQ(image->width, expected.width);
  EXPECT_EQ(image->channels, expected.channels);
  ASSERT_EQ(image->values.size(), expected.values.size());
  for (size_t i = 0; i < expected.values.size(); ++i) {
    ASSERT_LE(std::abs(image->values[i] - expected.values[i]), slack) << i;
  }
}

// Luma by its formula.
Image Grey(const Image& colour) {
  Image grey = {.height = colour.height, .width = colour.width, .channels = 1, .values = {}};
  for (size_t i = 0; i < colour.values.size(); i += 3) {
    const double luma = 0.299 * colour.values[i] + 0.587 * colour.values[i + 1] + 0.114 * colour.values[i + 2];
    grey.values.push_back(static_cast<uint8_t>(std::lround(luma)));
  }
  return grey;
}

Image Colour(const Image& grey) {
  Image colour = {.height = grey.height, .width = grey.width, .channels = 3, .values = {}};
  for (const uint8_t value : grey.values) colour.values.insert(colour.values.end(), 3, value);
  return colour;
}

TEST(ReadImage, PngIsExact) {
  const Image colour = SmoothImage(13, 29, 3), grey = SmoothImage(31, 7, 1);
  ExpectImage(PngOf(colour), colour, 0);
  ExpectImage(PngOf(grey), grey, 0);
  ExpectImage(PngOf(grey), Colour(grey), 0);
  ExpectImage(PngOf(colour), Grey(colour), 0);
}

TEST(ReadImage, JpegIsNearlyExact) {
  const Image colour = SmoothImage(13, 29, 3), grey = SmoothImage(31, 7, 1);
  ExpectImage(JpegOf(colour), colour, 2);
  ExpectImage(JpegOf(grey), grey, 2);
  ExpectImage(JpegOf(grey), Colour(grey), 2);
  ExpectImage(JpegOf(colour), Grey(colour), 2);
}

TEST(ReadImage, TheOrderIsRowsThenChannels) {
  Image image = {.height = 1, .width = 2, .channels = 3, .values = {255, 0, 0, 0, 0, 255}};
  ExpectImage(PngOf(image), image, 0);
  image.values = {250, 20, 20, 250, 20, 20};
  ExpectImage(JpegOf(image), image, 3);
}

TEST(ReadImage, WhatIsTransparentIsWhite) {
  const Image clear = {.height = 1, .width = 2, .channels = 4, .values = {10, 20, 30, 0, 10, 20, 30, 255}};
  ExpectImage(PngOf(clear), {.height = 1, .width = 2, .channels = 3, .values = {255, 255, 255, 10, 20, 30}}, 0);
}

TEST(ReadImage, SixteenBitsBecomeEight) {
  // Written by Pillow: grey, 1 x 2, 0x4040 and 0x80ff, with no word of gamma.
  const std::string png = FromHex(
      "89504e470d0a1a0a0000000d494844520000000200000001100000000081d9fc150000000d49444154789c63707068f80f0003c4020017e5166f"
      "0000000049454e44ae426082");
  ExpectImage(png, {.height = 1, .width = 2, .channels = 1, .values = {0x40, 0x81}}, 1);
}

TEST(ReadImage, CmykBecomesColour) {
  // Inverted, as Adobe writes it: shares of white. Red is no cyan: 255, all magenta and yellow: 0, no black: 255.
  const Image red = {.height = 8, .width = 8, .channels = 4, .values = [] {
                       std::vector<uint8_t> values;
                       for (int i = 0; i < 64; ++i) values.insert(values.end(), {255, 0, 0, 204});
                       return values;
                     }()};
  const auto image = DecodeImage("x", JpegOf(red), 3);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_NEAR(image->values[0], 204, 2);
  EXPECT_NEAR(image->values[1], 0, 2);
  EXPECT_NEAR(image->values[2], 0, 2);
}

TEST(ReadImage, FilesAreReadWhateverTheirNames) {
  const Image grey = SmoothImage(9, 9, 1);
  const std::string path = TestFolder() + "/a.jpg";
  WriteContent(path, PngOf(grey));
  auto image = ReadImage(FileSystem::Posix(), path, 1);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->values, grey.values);
  ExpectError(ReadImage(FileSystem::Posix(), path + "x", 1).status(), {"a.jpgx: no such file"});
}

TEST(ReadImage, WhatIsNoImageIsSaid) {
  ExpectError(DecodeImage("a.png", "GIF89a..", 3).status(),
              {"a.png: not an image: begins with bytes 4749463839612e2e", "89504e470d0a1a0a", "ffd8ff"});
  ExpectError(DecodeImage("a.png", "", 3).status(), {"a.png: not an image: it is empty"});
}

// The last bytes of a file only say that it has ended: 12 of a PNG, 2 of a JPEG.
TEST(ReadImage, EveryCutIsDetected) {
  const Image image = SmoothImage(40, 30, 3);
  const std::string png = PngOf(image), jpeg = JpegOf(image);
  for (size_t n = 8; n < png.size() - 12; ++n) {
    ExpectError(DecodeImage("a.png", png.substr(0, n), 3).status(), {"a.png: not a whole PNG: "});
  }
  for (size_t n = 3; n < jpeg.size() - 2; ++n) {
    ExpectError(DecodeImage("a.jpg", jpeg.substr(0, n), 3).status(), {"a.jpg: not a whole JPEG: "});
  }
}

TEST(ReadImage, DamageIsNoCrash) {
  const Image image = SmoothImage(16, 16, 3);
  const std::string png = PngOf(image), jpeg = JpegOf(image);
  for (size_t at = 8; at < png.size() - 12; ++at) {
    std::string damaged = png;
    damaged[at] ^= 0x55;
    // PNG has checksums; between header and pixels there are pieces that a reader may do without.
    const bool needed = at < 33 || at >= png.find("IDAT");
    EXPECT_TRUE(!needed || !DecodeImage("a.png", damaged, 3).ok()) << at;
  }
  for (size_t at = 3; at < jpeg.size(); ++at) {
    std::string damaged = jpeg;
    damaged[at] ^= 0x55;
    DecodeImage("a.jpg", damaged, 3).status().IgnoreError();  // JPEG has none
  }
}

TEST(ReadImage, HugeSidesAreRefused) {
  const Image wide = {.height = 1, .width = 16385, .channels = 1, .values = std::vector<uint8_t>(16385)};
  for (const std::string& content : {PngOf(wide), JpegOf(wide)}) {
    ExpectError(DecodeImage("wide", content, 1).status(), {"wide: a picture of 1 x 16385", "1 to 16384"});
  }
}

}  // namespace
}  // namespace trefoil
