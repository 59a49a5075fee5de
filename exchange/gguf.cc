#include "exchange/gguf.h"

#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "exchange/block_file.h"
#include "exchange/number_formats.h"

namespace trefoil {
namespace {

// The formats of tensors by ggml's numbers.
constexpr std::pair<uint32_t, const char*> kFormats[] = {{0, "F32"},  {1, "F16"},   {2, "Q4_0"},  {3, "Q4_1"},
                                                         {8, "Q8_0"}, {12, "Q4_K"}, {14, "Q6_K"}, {30, "BF16"}};

// The types of entries.
enum Type : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kList, kU64, kI64, kF64 };
constexpr std::array<int64_t, 13> kLeastBytes = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};

// Walks through the beginning of a file.
class Cursor {
 public:
  Cursor(const ReadableFile& file, std::string path) : file_(file), path_(std::move(path)) {}

  int64_t at() const { return at_; }
  int64_t left() const { return file_.size() - at_; }

  absl::Status Bytes(std::span<std::byte> out) {
    if (static_cast<int64_t>(out.size()) > left()) return Truncated();
    while (!out.empty()) {
      if (at_ < buffer_begin_ || at_ >= buffer_begin_ + static_cast<int64_t>(buffer_.size())) {
        buffer_begin_ = at_;
        buffer_.resize(static_cast<size_t>(std::min<int64_t>(1 << 20, left())));
        TREFOIL_RETURN_IF_ERROR(file_.Read(at_, buffer_));
      }
      const auto offset = static_cast<size_t>(at_ - buffer_begin_),
                 count = std::min(out.size(), buffer_.size() - offset);
      std::memcpy(out.data(), buffer_.data() + offset, count);
      out = out.subspan(count);
      at_ += static_cast<int64_t>(count);
    }
    return absl::OkStatus();
  }

  template <typename T>
  absl::StatusOr<T> Number() {
    T value;
    TREFOIL_RETURN_IF_ERROR(Bytes(std::as_writable_bytes(std::span(&value, 1))));
    return value;
  }

  // A count of things of at least so many bytes each, for which there is room.
  absl::StatusOr<int64_t> Count(int64_t least_bytes) {
    TREFOIL_ASSIGN_OR_RETURN(const auto count, Number<uint64_t>());
    if (count > static_cast<uint64_t>(left() / least_bytes)) return Truncated();
    return static_cast<int64_t>(count);
  }

  absl::StatusOr<std::string> String() {
    TREFOIL_ASSIGN_OR_RETURN(const int64_t length, Count(1));
    std::string text(static_cast<size_t>(length), '\0');
    TREFOIL_RETURN_IF_ERROR(Bytes(std::as_writable_bytes(std::span(text))));
    return text;
  }

  absl::Status Wrong(const std::string& what) const { return absl::DataLossError(path_ + ": " + what); }

 private:
  absl::Status Truncated() const {
    return Wrong(
        absl::StrCat("something at byte ", at_, " would end behind the file's end: truncated, or no GGUF file"));
  }

  const ReadableFile& file_;
  const std::string path_;
  int64_t at_ = 0, buffer_begin_ = 0;
  std::vector<std::byte> buffer_;
};

template <typename T>
absl::StatusOr<nlohmann::json> NumberOf(Cursor& cursor) {
  TREFOIL_ASSIGN_OR_RETURN(const T value, cursor.Number<T>());
  return nlohmann::json(value);
}

// Not of lists.
absl::StatusOr<nlohmann::json> ValueOf(Cursor& cursor, uint32_t type) {
  switch (type) {
    case kU8:
      return NumberOf<uint8_t>(cursor);
    case kI8:
      return NumberOf<int8_t>(cursor);
    case kU16:
      return NumberOf<uint16_t>(cursor);
    case kI16:
      return NumberOf<int16_t>(cursor);
    case kU32:
      return NumberOf<uint32_t>(cursor);
    case kI32:
      return NumberOf<int32_t>(cursor);
    case kU64:
      return NumberOf<uint64_t>(cursor);
    case kI64:
      return NumberOf<int64_t>(cursor);
    case kF32:
      return NumberOf<float>(cursor);
    case kF64:
      return NumberOf<double>(cursor);
    case kBool: {
      TREFOIL_ASSIGN_OR_RETURN(const auto value, cursor.Number<uint8_t>());
      return nlohmann::json(value != 0);
    }
    case kString: {
      TREFOIL_ASSIGN_OR_RETURN(std::string text, cursor.String());
      return nlohmann::json(std::move(text));
    }
    default:
      return cursor.Wrong(absl::StrCat("an entry has type ", type, ", which is not known"));
  }
}

absl::StatusOr<nlohmann::json> EntryOf(Cursor& cursor) {
  TREFOIL_ASSIGN_OR_RETURN(const auto type, cursor.Number<uint32_t>());
  if (type != kList) return ValueOf(cursor, type);
  TREFOIL_ASSIGN_OR_RETURN(const auto of, cursor.Number<uint32_t>());
  if (of == kList || of >= kLeastBytes.size())
    return cursor.Wrong(absl::StrCat("a list has type ", of, ", which is not known"));
  TREFOIL_ASSIGN_OR_RETURN(const int64_t count, cursor.Count(kLeastBytes[of]));
  nlohmann::json list = nlohmann::json::array();
  for (int64_t i = 0; i < count; ++i) {
    TREFOIL_ASSIGN_OR_RETURN(nlohmann::json value, ValueOf(cursor, of));
    list.push_back(std::move(value));
  }
  return list;
}

absl::StatusOr<ForeignTensor> TensorOf(Cursor& cursor) {
  ForeignTensor tensor;
  TREFOIL_ASSIGN_OR_RETURN(tensor.name, cursor.String());
  TREFOIL_ASSIGN_OR_RETURN(const auto dims, cursor.Number<uint32_t>());
  if (dims > 4) return cursor.Wrong(absl::StrCat(tensor.name, " has ", dims, " dims, at most 4"));
  for (uint32_t i = 0; i < dims; ++i) {
    TREFOIL_ASSIGN_OR_RETURN(const auto dim, cursor.Number<uint64_t>());
    tensor.shape.insert(tensor.shape.begin(), dim > uint64_t{1} << 60 ? -1 : static_cast<int64_t>(dim));
  }
  TREFOIL_ASSIGN_OR_RETURN(const auto number, cursor.Number<uint32_t>());
  TREFOIL_ASSIGN_OR_RETURN(const auto offset, cursor.Number<uint64_t>());
  const auto* const known =
      std::find_if(std::begin(kFormats), std::end(kFormats), [&](const auto& f) { return f.first == number; });
  if (known == std::end(kFormats)) {
    return cursor.Wrong(absl::StrCat(tensor.name, " has ggml's format ", number,
                                     ", which is not known; legal: F32, F16, BF16, Q4_0, Q4_1, Q8_0, Q4_K, Q6_K"));
  }
  tensor.dtype = known->second;
  const NumberFormat& format = *FindNumberFormat(tensor.dtype);
  const int64_t elements = tensor.elements();
  if (elements < 0 || tensor.shape.empty() || tensor.shape.back() % format.block_elements != 0) {
    return cursor.Wrong(absl::StrCat(tensor.name, " is ", tensor.ShapeText(), " of ", tensor.dtype,
                                     ", whose rows are multiples of ", format.block_elements));
  }
  tensor.bytes = elements / format.block_elements * format.block_bytes;
  if (offset > uint64_t{1} << 60) return cursor.Wrong(tensor.name + " begins behind the file's end");
  tensor.begin = static_cast<int64_t>(offset);
  return tensor;
}

class GgufFile : public ForeignTensors {
 public:
  GgufFile(std::unique_ptr<ReadableFile> file, std::string path) : file_(std::move(file)), path_(std::move(path)) {}

  absl::Status ReadHeader(nlohmann::json* metadata) {
    Cursor cursor(*file_, path_);
    TREFOIL_ASSIGN_OR_RETURN(const auto magic, cursor.Number<uint32_t>());
    if (magic != 0x46554747) return cursor.Wrong("does not begin with GGUF");
    TREFOIL_ASSIGN_OR_RETURN(const auto version, cursor.Number<uint32_t>());
    if (version != 2 && version != 3) return cursor.Wrong(absl::StrCat("is of version ", version, ", must be 2 or 3"));
    TREFOIL_ASSIGN_OR_RETURN(const int64_t tensors, cursor.Count(32));
    TREFOIL_ASSIGN_OR_RETURN(const int64_t entries, cursor.Count(13));
    *metadata = nlohmann::json::object();
    for (int64_t i = 0; i < entries; ++i) {
      TREFOIL_ASSIGN_OR_RETURN(const std::string key, cursor.String());
      TREFOIL_ASSIGN_OR_RETURN(nlohmann::json value, EntryOf(cursor));
      if (metadata->contains(key)) return cursor.Wrong("has the entry " + key + " twice");
      (*metadata)[key] = std::move(value);
    }
    for (int64_t i = 0; i < tensors; ++i) {
      TREFOIL_ASSIGN_OR_RETURN(ForeignTensor tensor, TensorOf(cursor));
      tensors_.push_back(std::move(tensor));
    }
    const auto alignment = metadata->find("general.alignment");
    const int64_t align =
        alignment == metadata->end() || !alignment->is_number_unsigned() ? 32 : alignment->get<int64_t>();
    if (align < 1 || align > 1 << 20)
      return cursor.Wrong(absl::StrCat("general.alignment: ", align, ", must be at most 2^20"));
    return Place((cursor.at() + align - 1) / align * align, cursor);
  }

  absl::Status Read(const ForeignTensor& tensor, int64_t first, std::span<float> out) const override {
    return ReadElements(*file_, tensor, first, out);
  }

 private:
  // Offsets to places in the file.
  absl::Status Place(int64_t begin, const Cursor& cursor) {
    std::sort(tensors_.begin(), tensors_.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
    int64_t end = begin;
    for (ForeignTensor& tensor : tensors_) {
      tensor.begin += begin;
      if (tensor.begin < end || tensor.bytes > file_->size() - tensor.begin) {
        return cursor.Wrong(absl::StrCat(tensor.name, " would be at bytes ", tensor.begin, " to ",
                                         tensor.begin + tensor.bytes, ", the tensor before it ends at ", end,
                                         ", the file at ", file_->size()));
      }
      end = tensor.begin + tensor.bytes;
    }
    std::sort(tensors_.begin(), tensors_.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    const auto twice = std::adjacent_find(tensors_.begin(), tensors_.end(),
                                          [](const auto& a, const auto& b) { return a.name == b.name; });
    return twice == tensors_.end() ? absl::OkStatus() : cursor.Wrong("has the tensor " + twice->name + " twice");
  }

  const std::unique_ptr<ReadableFile> file_;
  const std::string path_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ForeignTensors>> OpenGguf(FileSystem& fs, const std::string& path,
                                                         nlohmann::json* metadata) {
  TREFOIL_ASSIGN_OR_RETURN(std::unique_ptr<ReadableFile> file, fs.Open(path));
  auto gguf = std::make_unique<GgufFile>(std::move(file), path);
  TREFOIL_RETURN_IF_ERROR(gguf->ReadHeader(metadata));
  return gguf;
}

}  // namespace trefoil
