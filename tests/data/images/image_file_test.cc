#include "data/images/image_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "runtime/files/crc32c.h"
#include "tests/data/images/image_testing.h"
#include "tests/runtime/files/fault_file_system.h"

namespace trefoil {
namespace {

const ImageFormat kPets = {.height = 1, .width = 2, .channels = 1, .classes = {"cat", "dog"}};
const std::vector<LabelledImage> kDogAndCat = {{{0, 255}, 1}, {{128, 129}, 0}};

std::string Little(uint32_t value) { return std::string(reinterpret_cast<const char*>(&value), 4); }

// The example of the header, with its checksums.
std::string GoldenBytes() {
  const std::string header =
      FromHex("5446494d41474553 01000000 01000000 02000000 01000000 02000000 0e000000 0200000000000000"
              "03000000 636174 03000000 646f67 01000000 00000000");
  std::string bytes = header + Little(Crc32c(header));
  for (const char* image : {"00ff", "8081"}) bytes += FromHex(image) + Little(Crc32c(FromHex(image)));
  return bytes;
}

// The golden bytes with `value` at `offset` and the header's checksum right again.
template <typename T>
std::string With(size_t offset, T value) {
  std::string bytes = GoldenBytes();
  std::memcpy(&bytes[offset], &value, sizeof(T));
  return bytes.replace(62, 4, Little(Crc32c(std::string_view(bytes).substr(0, 62))));
}

class ImageFileTest : public testing::Test {
 protected:
  absl::Status Opened(const std::string& content) {
    WriteContent(path_, content);
    return ImageFile::Open(path_).status();
  }

  const std::string path_ = TestFolder() + "/pets.images";
};

TEST_F(ImageFileTest, WritesAndReadsGoldenBytes) {
  WriteImageFile(path_, kPets, kDogAndCat);
  ASSERT_EQ(Content(path_).size(), 78u);
  EXPECT_EQ(Content(path_), GoldenBytes());
  auto file = ImageFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->format(), kPets);
  EXPECT_EQ(file->labels(), (std::vector<int32_t>{1, 0}));
  for (const size_t i : {1, 0}) {
    std::vector<uint8_t> image(2);
    ASSERT_TRUE(file->Read(static_cast<int64_t>(i), image).ok());
    EXPECT_EQ(image, kDogAndCat[i].values);
  }
}

TEST_F(ImageFileTest, ManyImagesOfColour) {
  const ImageFormat format = {.height = 31, .width = 17, .channels = 3, .classes = {"", "é", "z"}};
  std::vector<LabelledImage> images(1000);
  for (size_t i = 0; i < images.size(); ++i) {
    images[i].label = static_cast<int32_t>(i % 3);
    for (int64_t k = 0; k < format.bytes(); ++k) images[i].values.push_back(static_cast<uint8_t>(i * 7 + k));
  }
  WriteImageFile(path_, format, images);  // more than the writer's buffer
  auto file = ImageFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->format(), format);
  std::vector<uint8_t> image(static_cast<size_t>(format.bytes()));
  for (const size_t i : {999, 0, 500}) {
    ASSERT_TRUE(file->Read(static_cast<int64_t>(i), image).ok());
    EXPECT_EQ(image, images[i].values);
    EXPECT_EQ(file->labels()[i], images[i].label);
  }
}

TEST_F(ImageFileTest, EveryCutIsDetected) {
  const std::string bytes = GoldenBytes();
  for (size_t n = 0; n < bytes.size(); ++n) {
    ExpectError(Opened(bytes.substr(0, n)), {"pets.images: truncated: " + std::to_string(n) + " bytes"});
  }
  ExpectError(Opened(bytes + "x"), {"pets.images: 79 bytes; 2 images of 1 x 2 x 1 make 78"});
}

TEST_F(ImageFileTest, BrokenHeadersAreExplained) {
  ExpectError(Opened(With(0, 'X')), {"begins with bytes 5846494d41474553", "5446494d41474553 (TFIMAGES)"});
  ExpectError(Opened(With<uint32_t>(8, 2)), {"version 2", "only version 1"});
  ExpectError(Opened(With<uint32_t>(12, 0)), {"images of 0 x 2", "1 to 16384"});
  ExpectError(Opened(With<uint32_t>(16, 16385)), {"images of 1 x 16385", "1 to 16384"});
  ExpectError(Opened(With<uint32_t>(20, 4)), {"4 channels", "1 (grey) or 3"});
  ExpectError(Opened(With<uint64_t>(32, 0)), {"0 images", "at least 1"});
  ExpectError(Opened(With<uint64_t>(32, 3)), {"truncated", "3 images"});
  ExpectError(Opened(With<uint64_t>(32, ~uint64_t{0} / 9)), {"truncated"});  // 10 x this overflows
  ExpectError(Opened(With<uint32_t>(28, 0xfffffff0)), {"truncated"});
  ExpectError(Opened(With<uint32_t>(40, 11)), {"name of class 0 goes beyond names_bytes"});
  ExpectError(Opened(With<uint32_t>(24, 1)), {"7 bytes follow the names of 1 classes"});
  ExpectError(Opened(With<uint32_t>(24, 3)), {"name of class 2 goes beyond names_bytes"});
  ExpectError(Opened(With<int32_t>(54, 2)), {"image 0 has label 2", "[0, 2)"});
  ExpectError(Opened(With<int32_t>(58, -1)), {"image 1 has label -1", "[0, 2)"});
}

TEST_F(ImageFileTest, EveryDamagedByteIsDetected) {
  for (size_t at = 0; at < 78; ++at) {
    std::string bytes = GoldenBytes();
    bytes[at] ^= 0x10;
    WriteContent(path_, bytes);
    auto file = ImageFile::Open(path_);
    if (at < 66) {
      EXPECT_FALSE(file.ok()) << at;
      continue;
    }
    ASSERT_TRUE(file.ok()) << file.status();
    std::vector<uint8_t> image(2);
    const int64_t damaged = at < 72 ? 0 : 1;
    ExpectError(file->Read(damaged, image), {"pets.images: image " + std::to_string(damaged) + " is damaged"});
    EXPECT_TRUE(file->Read(1 - damaged, image).ok());
  }
}

TEST_F(ImageFileTest, AFileThatChangesWhileOpenIsSaid) {
  WriteContent(path_, GoldenBytes());
  auto file = ImageFile::Open(path_);
  ASSERT_TRUE(file.ok());
  std::filesystem::resize_file(path_, 70);
  std::vector<uint8_t> image(2);
  ExpectError(file->Read(1, image), {"has 70 bytes, had 78 when it was opened"});
}

TEST_F(ImageFileTest, TheChecksumTellsFilesApart) {
  std::vector<uint32_t> checksums;
  for (const auto& images : {kDogAndCat, {kDogAndCat[1], kDogAndCat[0]}, {kDogAndCat[0], {{128, 130}, 0}}}) {
    WriteImageFile(path_, kPets, images);
    auto file = ImageFile::Open(path_);
    ASSERT_TRUE(file.ok());
    checksums.push_back(file->checksum());
  }
  EXPECT_NE(checksums[0], checksums[1]);
  EXPECT_NE(checksums[0], checksums[2]);
}

// However a writer is killed, there is a whole file or none of the name.
TEST_F(ImageFileTest, AnUnfinishedFileIsNeverSeen) {
  for (int64_t call = 0;; ++call) {
    ASSERT_TRUE(FileSystem::Posix().Remove(path_).ok());
    FaultFileSystem fs(FileSystem::Posix());
    fs.CrashAt(call);
    auto writer = ImageFileWriter::Create(fs, path_, kPets, std::vector<int32_t>{1, 0});
    bool finished = writer.ok();
    for (const LabelledImage& image : kDogAndCat) finished = finished && (*writer)->Add(image.values).ok();
    finished = finished && (*writer)->Finish().ok();
    if (FileSystem::Posix().Exists(path_)) {
      EXPECT_EQ(Content(path_), GoldenBytes()) << call;
    } else {
      EXPECT_FALSE(finished) << call;
    }
    if (!fs.crashed()) {
      EXPECT_GT(call, 3);
      break;
    }
  }
  EXPECT_TRUE(Glob(path_ + ".partial").empty());
  ASSERT_TRUE(ImageFileWriter::Create(FileSystem::Posix(), path_, kPets, std::vector<int32_t>{1, 0}).ok());
  EXPECT_TRUE(Glob(path_ + ".partial").empty()) << "destroyed without Finish";
  EXPECT_EQ(Content(path_), GoldenBytes());
}

}  // namespace
}  // namespace trefoil
