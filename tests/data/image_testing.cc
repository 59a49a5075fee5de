#include "tests/data/image_testing.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

namespace trefoil {

std::string TestFolder() {
  const std::string folder = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name() +
                             std::to_string(getpid());
  EXPECT_TRUE(FileSystem::Posix().MakeFolder(folder).ok());
  return folder;
}

void WriteImageFile(const std::string& path, const ImageFormat& format, const std::vector<LabelledImage>& images) {
  std::vector<int32_t> labels;
  for (const LabelledImage& image : images) labels.push_back(image.label);
  auto writer = ImageFileWriter::Create(FileSystem::Posix(), path, format, labels);
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (const LabelledImage& image : images) ASSERT_TRUE((*writer)->Add(image.values).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
}

std::string Content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

void WriteContent(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

std::string FromHex(const std::string& hex) {
  std::string bytes, digits;
  for (const char c : hex) {
    if (c != ' ') digits += c;
  }
  for (size_t i = 0; i < digits.size(); i += 2) bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  return bytes;
}

void ExpectError(const absl::Status& status, const std::vector<std::string>& parts) {
  ASSERT_FALSE(status.ok());
  for (const std::string& part : parts) {
    EXPECT_NE(status.message().find(part), std::string::npos) << status << "\nlacks " << part;
  }
}

}  // namespace trefoil
