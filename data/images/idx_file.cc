#include "data/images/idx_file.h"

#include <absl/strings/str_cat.h>

#include <memory>
#include <utility>

#include "data/images/image_file.h"
#include "data/text/byte_source.h"

namespace trefoil {
namespace {

constexpr int64_t kReadBytes = int64_t{1} << 20;

uint32_t Load(const std::string& bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = at; i < at + 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

absl::StatusOr<std::string> ReadWhole(const std::string& path) {
  TREFOIL_ASSIGN_OR_RETURN(auto source, ByteSource::Open(path, 0, -1));
  std::string bytes;
  while (!source->ended()) TREFOIL_RETURN_IF_ERROR(source->Append(kReadBytes, &bytes));
  return bytes;
}

// An array of u8 with `dims` dims.
struct IdxArray {
  std::vector<int64_t> shape;
  std::string values;
};

absl::StatusOr<IdxArray> ReadIdx(const std::string& path, size_t dims, const char* what) {
  TREFOIL_ASSIGN_OR_RETURN(std::string bytes, ReadWhole(path));
  const auto error = [&](const auto&... parts) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", parts...));
  };
  const auto magic = static_cast<uint32_t>(0x0800 + dims);
  const size_t header_bytes = 4 + 4 * dims;
  if (bytes.size() >= 4 && Load(bytes, 0) != magic) {
    return error("begins with bytes ", absl::Hex(Load(bytes, 0), absl::kZeroPad8), "; an IDX file of ", what,
                 " begins with ", absl::Hex(magic, absl::kZeroPad8),
                 (Load(bytes, 0) & ~3u) == 0x0800 ? ": are images and labels interchanged?" : "");
  }
  if (bytes.size() < header_bytes) {
    return error("truncated: ", bytes.size(), " bytes; the header of ", what, " has ", header_bytes);
  }
  IdxArray array;
  uint64_t expected = 1;
  for (size_t d = 0; d < dims; ++d) {
    array.shape.push_back(Load(bytes, 4 + 4 * d));
    if (d > 0 && (array.shape[d] < 1 || array.shape[d] > ImageFormat::kLargestSide)) {
      return error("images with a side of ", array.shape[d], "; sides are 1 to ", ImageFormat::kLargestSide);
    }
    expected *= static_cast<uint64_t>(array.shape[d]);  // below 2^32 x 2^28
  }
  if (array.shape[0] == 0) return error("holds 0 ", what, "; at least 1 is needed");
  if (bytes.size() - header_bytes != expected) {
    const bool truncated = bytes.size() - header_bytes < expected;
    return error(truncated ? "truncated: " : "", bytes.size(), " bytes; ", array.shape[0], " ", what, " make ",
                 header_bytes + expected);
  }
  array.values = bytes.substr(header_bytes);
  return array;
}

}  // namespace

absl::StatusOr<IdxPair> ReadIdxPair(const std::string& images_path, const std::string& labels_path) {
  TREFOIL_ASSIGN_OR_RETURN(IdxArray images, ReadIdx(images_path, 3, "images"));
  TREFOIL_ASSIGN_OR_RETURN(const IdxArray labels, ReadIdx(labels_path, 1, "labels"));
  if (images.shape[0] != labels.shape[0]) {
    return absl::InvalidArgumentError(absl::StrCat(labels_path, ": ", labels.shape[0], " labels, but ", images_path,
                                                   " has ", images.shape[0], " images; there is one label an image"));
  }
  IdxPair pair;
  pair.height = images.shape[1];
  pair.width = images.shape[2];
  pair.labels.assign(labels.values.begin(), labels.values.end());
  pair.values = std::move(images.values);
  return pair;
}

}  // namespace trefoil
