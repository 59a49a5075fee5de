#include "checkpoint/manifest_text.h"

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <glog/logging.h>

#include <algorithm>
#include <limits>
#include <span>

#include "runtime/files/crc32c.h"

namespace trefoil {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

std::string Trailer(absl::string_view body) {
  return absl::StrFormat("\"crc32c\":\"%08x\"}\n", Crc32c(std::string_view(body.data(), body.size())));
}

std::optional<DType> DTypeNamed(const std::string& name) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kInt32}) {
    if (name == Name(dtype)) return dtype;
  }
  return std::nullopt;
}

// Dims of at least 1 whose product fits; false if `numbers` are not such.
bool ReadShape(std::span<const int64_t> numbers, Shape* shape) {
  int64_t elements = 4;  // bytes of the widest element
  for (const int64_t dim : numbers) {
    if (dim < 1 || dim > kMost / elements) return false;
    elements *= dim;
    shape->push_back(dim);
  }
  return true;
}

// One slice of `tensor` from the front of `numbers`, which loses them; `rule` tells what is wrong with it, if anything.
std::optional<ManifestSlice> ReadSlice(std::span<const int64_t>* numbers, int64_t version, std::optional<int> rank,
                                       const ManifestTensor& tensor, const std::map<int, int64_t>& files,
                                       std::string* rule) {
  const auto dims = static_cast<size_t>(tensor.shape.rank());
  const auto take = [&](size_t count) {
    const std::span<const int64_t> values = numbers->first(std::min(count, numbers->size()));
    *numbers = numbers->subspan(values.size());
    return values;
  };
  *rule = "must have its numbers";
  ManifestSlice slice;
  const auto said_rank = take(rank ? 0 : 1), byte_offset = take(1);
  const auto whole_crc = take(version == 1 ? 1 : 0);
  const auto offset = take(dims), extent = take(dims);
  if (byte_offset.empty() || extent.size() < dims || (version == 1 && whole_crc.empty())) return std::nullopt;
  *rule = "must lie within the tensor";
  if (!ReadShape(extent, &slice.box.extent)) return std::nullopt;
  for (size_t i = 0; i < dims; ++i) {
    const int d = static_cast<int>(i);
    if (offset[i] > tensor.shape[d] - slice.box.extent[d]) return std::nullopt;
    slice.box.offset.push_back(offset[i]);
  }
  *rule = "must lie within its file";
  const int64_t bytes = slice.box.extent.elements() * static_cast<int64_t>(SizeOf(tensor.dtype));
  const int64_t writer = rank ? *rank : said_rank[0];
  if (writer > std::numeric_limits<int>::max()) return std::nullopt;
  slice.rank = static_cast<int>(writer);
  slice.byte_offset = byte_offset[0];
  const auto file = files.find(slice.rank);
  if (file == files.end() || slice.byte_offset > file->second - bytes) return std::nullopt;
  slice.chunk_bytes = version == 1 ? bytes : ChunkBytes(bytes);
  const auto chunks = static_cast<size_t>((bytes + slice.chunk_bytes - 1) / slice.chunk_bytes);
  const auto crcs = version == 1 ? whole_crc : take(chunks);
  *rule = "must have a checksum of 32 bits for each chunk";
  if (crcs.size() != chunks) return std::nullopt;
  for (const int64_t crc : crcs) {
    if (crc > std::numeric_limits<uint32_t>::max()) return std::nullopt;
    slice.crcs.push_back(static_cast<uint32_t>(crc));
  }
  return slice;
}

}  // namespace

std::string Quoted(const std::string& text) {
  const std::string quoted = Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
  CHECK(Json::parse(quoted).get<std::string>() == text) << "not UTF-8: " << quoted;
  return quoted;
}

std::string Numbers(const Shape& shape) {
  std::string text;
  for (int i = 0; i < shape.rank(); ++i) absl::StrAppend(&text, i > 0 ? "," : "", shape[i]);
  return text;
}

std::string WithChecksum(const std::string& body) { return body + Trailer(body); }

absl::StatusOr<Json> ParseChecked(const std::string& text, const std::string& path, const std::string& format,
                                  const std::string& what) {
  const auto wrong = [&](const std::string& error) { return absl::DataLossError(path + ": " + error); };
  const size_t trailer = Trailer("").size();
  if (text.size() < trailer) return wrong(absl::StrCat("truncated: ", text.size(), " bytes"));
  const absl::string_view body(text.data(), text.size() - trailer);
  if (!absl::EndsWith(text, Trailer(body))) {
    return wrong(absl::StrFormat("damaged or truncated: its last line must be %s for the %d bytes before it",
                                 absl::StripAsciiWhitespace(Trailer(body)), body.size()));
  }
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.value("format", Json()) != format) return wrong("not " + what);
  const Json version = json.value("version", Json());
  if (!version.is_number_unsigned() || version < 1 || version > kManifestVersion) {
    return absl::UnimplementedError(absl::StrCat(path, ": format version ", version.dump(), ", but this program reads ",
                                                 "versions 1 to ", kManifestVersion, " only"));
  }
  return json;
}

std::optional<int64_t> NumberIn(const Json& json, const char* name) {
  const auto number = json.find(name);
  const bool fits = number != json.end() && number->is_number_unsigned() && *number <= static_cast<uint64_t>(kMost);
  return fits ? std::optional(number->get<int64_t>()) : std::nullopt;
}

std::optional<std::string> StringIn(const Json& json, const char* name) {
  const auto text = json.find(name);
  if (text == json.end() || !text->is_string()) return std::nullopt;
  return text->get<std::string>();
}

std::optional<std::vector<int64_t>> NumbersOf(const Json& json) {
  const auto fits = [](const Json& number) {
    return number.is_number_unsigned() && number <= static_cast<uint64_t>(kMost);
  };
  if (!json.is_array() || !std::all_of(json.begin(), json.end(), fits)) return std::nullopt;
  return json.get<std::vector<int64_t>>();
}

std::string TensorHead(const std::string& name, DType dtype, const Shape& shape) {
  return absl::StrCat("[", Quoted(name), ",\"", Name(dtype), "\",[", Numbers(shape), "]");
}

bool ReadTensorHead(const Json& json, size_t size, std::string* name, DType* dtype, Shape* shape, std::string* rule) {
  if (!json.is_array() || json.size() != size || !json[0].is_string() || !json[1].is_string()) return false;
  const auto dims = NumbersOf(json[2]);
  if (!dims || dims->size() > 4) return false;
  *name = json[0].get<std::string>();
  *rule = "dtype must be float32, bfloat16 or int32";
  const std::optional<DType> named = DTypeNamed(json[1].get<std::string>());
  if (!named) return false;
  *dtype = *named;
  *rule = "dims must be at least 1";
  return ReadShape(*dims, shape);
}

std::string TensorLine(const ManifestTensor& tensor) {
  std::string line = TensorHead(tensor.name, tensor.dtype, tensor.shape) + ",[";
  const char* separator = "";
  const auto add = [&](int64_t number) {
    absl::StrAppend(&line, separator, number);
    separator = ",";
  };
  for (const ManifestSlice& slice : tensor.slices) {
    add(slice.byte_offset);
    for (int i = 0; i < tensor.shape.rank(); ++i) add(slice.box.offset[i]);
    for (int i = 0; i < tensor.shape.rank(); ++i) add(slice.box.extent[i]);
    for (const uint32_t crc : slice.crcs) add(crc);
  }
  return line + "]]";
}

std::optional<ManifestTensor> ReadTensor(const Json& json, int64_t version, std::optional<int> rank,
                                         const std::map<int, int64_t>& files, std::string* rule) {
  ManifestTensor tensor;
  *rule = "must be [name, dtype, shape, slices]";
  if (!ReadTensorHead(json, 4, &tensor.name, &tensor.dtype, &tensor.shape, rule)) return std::nullopt;
  const auto numbers = NumbersOf(json[3]);
  *rule = "must be [name, dtype, shape, slices]";
  if (!numbers) return std::nullopt;
  for (std::span<const int64_t> left = *numbers; !left.empty();) {
    std::string slice_rule;
    std::optional<ManifestSlice> slice = ReadSlice(&left, version, rank, tensor, files, &slice_rule);
    *rule = absl::StrCat("slice ", tensor.slices.size(), " ", slice_rule);
    if (!slice) return std::nullopt;
    tensor.slices.push_back(std::move(*slice));
  }
  return tensor;
}

}  // namespace trefoil
