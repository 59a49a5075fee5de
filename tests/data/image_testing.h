// Small image files for tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

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

std::string Content(const std::string& path);
void WriteContent(const std::string& path, const std::string& content);
// The bytes that hexadecimal digits, spaces between them, stand for.
std::string FromHex(const std::string& hex);
// Checks that `status` is an error whose message has all the parts.
void ExpectError(const absl::Status& status, const std::vector<std::string>& parts);

}  // namespace trefoil
