// Image files: labelled images of one size, unpacked, so that any of them is one read away.
//
//   const ImageFormat format = {.height = 224, .width = 224, .channels = 3, .classes = {"cat", "dog"}};
//   TREFOIL_ASSIGN_OR_RETURN(auto writer, ImageFileWriter::Create(fs, "pets/train-00000.images", format, labels));
//   TREFOIL_RETURN_IF_ERROR(writer->Add(values));             // labels.size() times
//   TREFOIL_RETURN_IF_ERROR(writer->Finish());
//
//   TREFOIL_ASSIGN_OR_RETURN(ImageFile file, ImageFile::Open("pets/train-00000.images"));
//   std::vector<uint8_t> image(file.format().bytes());
//   TREFOIL_RETURN_IF_ERROR(file.Read(7, image));             // image[(y * width + x) * channels + c], 0 to 255
//   file.labels()[7]                                          // an index into format().classes
//
// A data set is one file or several (shards) of one format; data/images/image_samples.h reads them as one.
//
// Format (little-endian, nothing aligned):
//   file   := header image[count]
//   header := "TFIMAGES" u32 version=1 u32 height u32 width u32 channels u32 classes u32 names_bytes u64 count
//             name[classes] i32 label[count] u32 crc
//   name   := u32 n u8[n]                                     UTF-8; all names together have names_bytes bytes
//   image  := u8 value[height][width][channels] u32 crc
// channels is 1 (grey) or 3 (red, green, blue); a label is in [0, classes). A crc is the CRC32C of the bytes before it,
// of the header or of the image.
//
// Example: two grey images of 1 x 2, a dog [0 255] and a cat [128 129], are 78 bytes:
//   5446494d41474553 01000000 01000000 02000000 01000000 02000000 0e000000 0200000000000000
//   03000000 636174 03000000 646f67   01000000 00000000   crc
//   00ff crc
//   8081 crc
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

struct ImageFormat {
  int64_t height = 0;  // 1 to kLargestSide
  int64_t width = 0;
  int64_t channels = 0;              // 1 or 3
  std::vector<std::string> classes;  // name of each label, at least one

  static constexpr int64_t kLargestSide = 16384;
  // Of one image.
  int64_t bytes() const { return height * width * channels; }
  bool operator==(const ImageFormat&) const = default;
};

// Writes one file, image by image. Until Finish returns ok it is under a temporary name, PATH.partial; Finish flushes
// and renames it. Destroyed without Finish, it removes the temporary file.
//
// Failure: what the file system says. After a failed call only destroy it. One thread at a time.
class ImageFileWriter {
 public:
  // `labels`: of all images that will be added, in their order, each in [0, format.classes.size()). `fs` outlives the
  // writer.
  static absl::StatusOr<std::unique_ptr<ImageFileWriter>> Create(FileSystem& fs, std::string path,
                                                                 const ImageFormat& format,
                                                                 std::span<const int32_t> labels);
  ~ImageFileWriter();
  ImageFileWriter(const ImageFileWriter&) = delete;
  ImageFileWriter& operator=(const ImageFileWriter&) = delete;

  // format.bytes() values.
  absl::Status Add(std::span<const uint8_t> values);
  // After as many images as there are labels.
  absl::Status Finish();

 private:
  ImageFileWriter(FileSystem& fs, std::string path, int64_t image_bytes, int64_t images);
  absl::Status Flush();

  FileSystem& fs_;
  const std::string path_;
  const int64_t image_bytes_;
  int64_t images_left_;
  std::unique_ptr<WritableFile> file_;
  std::vector<std::byte> buffer_;
  bool finished_ = false;
};

// A file opened for reading; one file descriptor, and 4 bytes an image. Movable; the file system may go first. Threads:
// const calls from any.
//
// Open checks all but the images themselves, whose checksums Read looks at; each error names the file, the value found
// and the rule. A file that is cut short or rewritten in place while it is open is an error of the next Read; one that
// is replaced by a rename stays what it was.
class ImageFile {
 public:
  static absl::StatusOr<ImageFile> Open(const std::string& path, FileSystem& fs = FileSystem::Posix());

  const std::string& path() const { return path_; }
  const ImageFormat& format() const { return format_; }
  int64_t images() const { return static_cast<int64_t>(labels_.size()); }
  const std::vector<int32_t>& labels() const { return labels_; }
  // CRC32C of the header and of the checksums of the first, the middle and the last image: tells files apart without
  // reading them whole.
  uint32_t checksum() const { return checksum_; }
  // Copies image `index`, in [0, images()), to `out`, which has format().bytes() values.
  absl::Status Read(int64_t index, std::span<uint8_t> out) const;

 private:
  ImageFile() = default;
  absl::Status ReadHeader();
  absl::Status ReadChecksum(uint32_t header_crc);
  int64_t ImageBegin(int64_t index) const;

  std::string path_;
  ImageFormat format_;
  std::vector<int32_t> labels_;
  int64_t header_bytes_ = 0;
  uint32_t checksum_ = 0;
  std::unique_ptr<ReadableFile> file_;
};

}  // namespace trefoil
