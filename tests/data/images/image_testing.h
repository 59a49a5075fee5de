// Small image files for tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/images/image.h"
#include "data/images/image_file.h"

namespace trefoil {

// A folder of this test's own, made if absent.
std::string TestFolder();

struct LabelledImage {
  std::vector<uint8_t> values;
  int32_t label = 0;
};
// Writes PATH as data/images/image_file.h says.
void WriteImageFile(const std::string& path, const ImageFormat& format, const std::vector<LabelledImage>& images);

// A picture in which every pixel and channel differs from its neighbours, smoothly enough for a JPEG to keep it nearly.
Image SmoothImage(int64_t height, int64_t width, int64_t channels);
// Files' content. A PNG of 1, 3 or, the last being how opaque it is, 4 channels; a JPEG of 1, 3 or, inverted CMYK, 4.
std::string PngOf(const Image& image);
std::string JpegOf(const Image& image);
// IDX files of images and labels, as data/images/idx_file.h says; compressed by gzip.
std::string IdxImages(int64_t height, int64_t width, const std::vector<LabelledImage>& images);
std::string IdxLabels(const std::vector<LabelledImage>& images);
std::string Gzip(const std::string& content);

std::string Content(const std::string& path);
void WriteContent(const std::string& path, const std::string& content);
// The bytes that hexadecimal digits, spaces between them, stand for.
std::string FromHex(const std::string& hex);
// Checks that `status` is an error whose message has all the parts.
void ExpectError(const absl::Status& status, const std::vector<std::string>& parts);

}  // namespace trefoil
