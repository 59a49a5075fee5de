#include "data/images/image_file.h"

#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <bit>
#include <cstring>
#include <utility>

#include "runtime/files/crc32c.h"

namespace trefoil {
namespace {

static_assert(std::endian::native == std::endian::little, "image files are little-endian");

constexpr char kMagic[8] = {'T', 'F', 'I', 'M', 'A', 'G', 'E', 'S'};
constexpr uint32_t kVersion = 1;
constexpr int64_t kFixedBytes = 40;  // of the header, before the names
constexpr int64_t kCrcBytes = 4;
constexpr size_t kBufferBytes = size_t{1} << 20;

template <typename T>
T Load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

template <typename T>
void Store(std::vector<std::byte>& out, T value) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&value);
  out.insert(out.end(), bytes, bytes + sizeof(T));
}

void StoreBytes(std::vector<std::byte>& out, std::span<const std::byte> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

std::vector<std::byte> Header(const ImageFormat& format, std::span<const int32_t> labels) {
  std::vector<std::byte> names;
  for (const std::string& name : format.classes) {
    Store(names, static_cast<uint32_t>(name.size()));
    StoreBytes(names, std::as_bytes(std::span(name)));
  }
  std::vector<std::byte> header;
  StoreBytes(header, std::as_bytes(std::span(kMagic)));
  Store(header, kVersion);
  for (const int64_t number : {format.height, format.width, format.channels,
                               static_cast<int64_t>(format.classes.size()), static_cast<int64_t>(names.size())}) {
    Store(header, static_cast<uint32_t>(number));
  }
  Store(header, static_cast<uint64_t>(labels.size()));
  StoreBytes(header, names);
  StoreBytes(header, std::as_bytes(labels));
  Store(header, Crc32c(header));
  return header;
}

}  // namespace

ImageFileWriter::ImageFileWriter(FileSystem& fs, std::string path, int64_t image_bytes, int64_t images)
    : fs_(fs), path_(std::move(path)), image_bytes_(image_bytes), images_left_(images) {}

absl::StatusOr<std::unique_ptr<ImageFileWriter>> ImageFileWriter::Create(FileSystem& fs, std::string path,
                                                                         const ImageFormat& format,
                                                                         std::span<const int32_t> labels) {
  for (const int64_t side : {format.height, format.width}) {
    CHECK(side >= 1 && side <= ImageFormat::kLargestSide) << path << ": " << side;
  }
  CHECK(format.channels == 1 || format.channels == 3) << path << ": " << format.channels;
  CHECK(!labels.empty()) << path;
  for (const int32_t label : labels) {
    CHECK(label >= 0 && static_cast<size_t>(label) < format.classes.size()) << path << ": label " << label;
  }
  std::unique_ptr<ImageFileWriter> writer(
      new ImageFileWriter(fs, std::move(path), format.bytes(), static_cast<int64_t>(labels.size())));
  TREFOIL_ASSIGN_OR_RETURN(writer->file_, fs.Create(writer->path_ + ".partial"));
  writer->buffer_ = Header(format, labels);
  return writer;
}

ImageFileWriter::~ImageFileWriter() {
  if (finished_) return;
  file_.reset();
  fs_.Remove(path_ + ".partial").IgnoreError();
}

absl::Status ImageFileWriter::Add(std::span<const uint8_t> values) {
  CHECK_EQ(static_cast<int64_t>(values.size()), image_bytes_) << path_;
  CHECK_GT(images_left_--, 0) << path_;
  StoreBytes(buffer_, std::as_bytes(values));
  Store(buffer_, Crc32c(std::as_bytes(values)));
  return buffer_.size() < kBufferBytes ? absl::OkStatus() : Flush();
}

absl::Status ImageFileWriter::Flush() {
  TREFOIL_RETURN_IF_ERROR(file_->Append(buffer_));
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status ImageFileWriter::Finish() {
  CHECK(!finished_);
  CHECK_EQ(images_left_, 0) << path_;
  TREFOIL_RETURN_IF_ERROR(Flush());
  TREFOIL_RETURN_IF_ERROR(file_->Close());
  TREFOIL_RETURN_IF_ERROR(RenameDurably(fs_, path_ + ".partial", path_));
  finished_ = true;
  return absl::OkStatus();
}

absl::StatusOr<ImageFile> ImageFile::Open(const std::string& path, FileSystem& fs) {
  ImageFile file;
  file.path_ = path;
  TREFOIL_ASSIGN_OR_RETURN(file.file_, fs.Open(path));
  TREFOIL_RETURN_IF_ERROR(file.ReadHeader());
  file.file_->ExpectRandomReads();
  return file;
}

int64_t ImageFile::ImageBegin(int64_t index) const { return header_bytes_ + index * (format_.bytes() + kCrcBytes); }

absl::Status ImageFile::ReadHeader() {
  const int64_t size = file_->size();
  auto error = [&](const auto&... what) { return absl::InvalidArgumentError(absl::StrCat(path_, ": ", what...)); };
  auto truncated = [&](const auto&... what) { return error("truncated: ", size, " bytes; ", what...); };

  std::vector<std::byte> header(static_cast<size_t>(std::min(size, kFixedBytes)));
  TREFOIL_RETURN_IF_ERROR(file_->Read(0, header));
  if (header.size() < sizeof(kMagic)) return truncated("the header alone has more than ", kFixedBytes);
  if (std::memcmp(header.data(), kMagic, sizeof(kMagic)) != 0) {
    std::string found;
    for (size_t i = 0; i < sizeof(kMagic); ++i) {
      absl::StrAppend(&found, absl::Hex(std::to_integer<int>(header[i]), absl::kZeroPad2));
    }
    return error("begins with bytes ", found, "; an image file begins with 5446494d41474553 (TFIMAGES), as written by ",
                 "`trefoil images`");
  }
  if (size < kFixedBytes) return truncated("the header alone has more than ", kFixedBytes);
  const auto number = [&](int index) { return int64_t{Load<uint32_t>(&header[8 + 4 * index])}; };
  if (number(0) != kVersion) return error("version ", number(0), "; only version ", kVersion, " is known");
  format_.height = number(1);
  format_.width = number(2);
  format_.channels = number(3);
  const int64_t classes = number(4), names_bytes = number(5);
  const auto count = Load<uint64_t>(&header[32]);
  for (const int64_t side : {format_.height, format_.width}) {
    if (side >= 1 && side <= ImageFormat::kLargestSide) continue;
    return error("images of ", format_.height, " x ", format_.width, "; sides are 1 to ", ImageFormat::kLargestSide);
  }
  if (format_.channels != 1 && format_.channels != 3) {
    return error(format_.channels, " channels; images have 1 (grey) or 3 (red, green, blue)");
  }
  if (count == 0) return error("holds 0 images; an image file has at least 1");
  // The first comparison keeps the second from overflowing.
  const int64_t image_bytes = 4 + format_.bytes() + kCrcBytes;
  const bool possible = count <= static_cast<uint64_t>(size / image_bytes);
  const int64_t expected =
      possible ? kFixedBytes + names_bytes + kCrcBytes + static_cast<int64_t>(count) * image_bytes : 0;
  if (!possible || expected > size) {
    return truncated(count, " images of ", format_.height, " x ", format_.width, " x ", format_.channels, " need more");
  }
  if (expected < size) {
    return error(size, " bytes; ", count, " images of ", format_.height, " x ", format_.width, " x ", format_.channels,
                 " make ", expected);
  }

  header_bytes_ = kFixedBytes + names_bytes + 4 * static_cast<int64_t>(count) + kCrcBytes;
  header.resize(static_cast<size_t>(header_bytes_));
  TREFOIL_RETURN_IF_ERROR(file_->Read(kFixedBytes, std::span(header).subspan(kFixedBytes)));
  const uint32_t crc = Crc32c(std::span(header).first(header.size() - kCrcBytes));
  const auto stored = Load<uint32_t>(&header[header.size() - kCrcBytes]);
  if (crc != stored) {
    return error("damaged: the header's checksum is ", absl::Hex(crc, absl::kZeroPad8), ", it says ",
                 absl::Hex(stored, absl::kZeroPad8));
  }

  std::span<const std::byte> names = std::span(header).subspan(kFixedBytes, static_cast<size_t>(names_bytes));
  for (int64_t i = 0; i < classes; ++i) {
    const size_t n = names.size() < 4 ? 0 : Load<uint32_t>(names.data());
    if (names.size() < 4 || n > names.size() - 4) return error("the name of class ", i, " goes beyond names_bytes");
    format_.classes.emplace_back(reinterpret_cast<const char*>(names.data() + 4), n);
    names = names.subspan(4 + n);
  }
  if (!names.empty()) return error(names.size(), " bytes follow the names of ", classes, " classes");
  labels_.resize(count);
  std::memcpy(labels_.data(), &header[static_cast<size_t>(kFixedBytes + names_bytes)], count * sizeof(int32_t));
  for (size_t i = 0; i < labels_.size(); ++i) {
    if (labels_[i] >= 0 && labels_[i] < classes) continue;
    return error("image ", i, " has label ", labels_[i], "; labels of ", classes, " classes are in [0, ", classes, ")");
  }
  return ReadChecksum(crc);
}

absl::Status ImageFile::ReadChecksum(uint32_t header_crc) {
  checksum_ = header_crc;
  for (const int64_t index : {int64_t{0}, images() / 2, images() - 1}) {
    std::byte crc[kCrcBytes];
    TREFOIL_RETURN_IF_ERROR(file_->Read(ImageBegin(index + 1) - kCrcBytes, crc));
    checksum_ = Crc32c(crc, checksum_);
  }
  return absl::OkStatus();
}

absl::Status ImageFile::Read(int64_t index, std::span<uint8_t> out) const {
  CHECK(index >= 0 && index < images()) << path_ << ": " << index << " of " << images();
  CHECK_EQ(static_cast<int64_t>(out.size()), format_.bytes());
  std::vector<std::byte> bytes(out.size() + kCrcBytes);
  const absl::Status read = file_->Read(ImageBegin(index), bytes);
  TREFOIL_RETURN_IF_ERROR(file_->Unchanged());  // says more of a file that was cut short than the read does
  TREFOIL_RETURN_IF_ERROR(read);
  const uint32_t crc = Crc32c(std::span(bytes).first(out.size()));
  const auto stored = Load<uint32_t>(&bytes[out.size()]);
  if (crc != stored) {
    return absl::DataLossError(absl::StrCat(path_, ": image ", index, " is damaged: its checksum is ",
                                            absl::Hex(crc, absl::kZeroPad8), ", the file says ",
                                            absl::Hex(stored, absl::kZeroPad8)));
  }
  std::memcpy(out.data(), bytes.data(), out.size());
  return absl::OkStatus();
}

}  // namespace trefoil
