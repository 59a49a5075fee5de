#include "checkpoint/manifest.h"

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <glog/logging.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "runtime/crc32c.h"

// manifest.json, exactly, line by line (a line ends with \n; no other white space):
//
//   manifest = `{"format":"trefoil checkpoint","version":1,`
//              `"step":` number `,`
//              `"model":` string `,`
//              `"trainer_state":` string `,`
//              `"files":[` [ file { `,` file } ] `],`
//              `"tensors":[`
//              [ tensor { `,\n` tensor } ]
//              `],`
//              `"crc32c":"` hex8 `"}`
//   file     = `[` rank `,` bytes `]`                  the size of rank-%05d.bin; ranks without a file are left out
//   tensor   = `[` name `,` dtype `,[` shape `],[` [ slice { `,` slice } ] `]]`      sorted by name
//   slice    = rank `,` byte offset in its file `,` crc32c of its bytes `,` offset `,` extent     plain numbers
//
// dtype is "float32", "bfloat16" or "int32"; shape, offset and extent have as many numbers as the tensor has dims. A
// slice is the box [offset, offset + extent), row-major, little-endian, product(extent) * element size bytes. hex8 is
// the CRC32C of every byte before the line that bears it. That last line is the same in every version.
//
// Example: a float32 tensor "w" of 4 x 3, its upper two rows written by rank 0 and the lower two by rank 1, and an
// int32 scalar "count" written by rank 1 behind them:
//
//   {"format":"trefoil checkpoint","version":1,
//   "step":100,
//   "model":"layers: 1",
//   "trainer_state":"samples: 3200",
//   "files":[[0,24],[1,28]],
//   "tensors":[
//   ["count","int32",[],[1,24,3713320107]],
//   ["w","float32",[4,3],[0,0,2152793273,0,0,2,3,1,0,520318861,2,0,2,3]]
//   ],
//   "crc32c":"6e1e3697"}

namespace trefoil {
namespace {

using Json = nlohmann::json;

constexpr char kFormat[] = "trefoil checkpoint";

std::string Quoted(const std::string& text) {
  const std::string quoted = Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
  CHECK(Json::parse(quoted).get<std::string>() == text) << "not UTF-8: " << quoted;
  return quoted;
}

template <typename Append>
void AppendDims(const Shape& shape, const Append& append) {
  for (int i = 0; i < shape.rank(); ++i) append(shape[i]);
}

std::string Numbers(const Shape& shape) {
  std::vector<int64_t> dims;
  AppendDims(shape, [&](int64_t dim) { dims.push_back(dim); });
  return absl::StrJoin(dims, ",");
}

std::string Trailer(absl::string_view body) {
  return absl::StrFormat("\"crc32c\":\"%08x\"}\n", Crc32c(std::string_view(body.data(), body.size())));
}

std::optional<DType> DTypeNamed(const std::string& name) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kInt32}) {
    if (name == Name(dtype)) return dtype;
  }
  return std::nullopt;
}

bool IsNumbers(const Json& json) {
  return json.is_array() &&
         std::all_of(json.begin(), json.end(), [](const Json& number) { return number.is_number_unsigned(); });
}

// Dims of at least 1 whose product fits; false if `numbers` are not such.
bool ReadShape(std::span<const int64_t> numbers, Shape* shape) {
  int64_t elements = 4;  // bytes of the widest element
  for (const int64_t dim : numbers) {
    if (dim < 1 || dim > std::numeric_limits<int64_t>::max() / elements) return false;
    elements *= dim;
    shape->push_back(dim);
  }
  return true;
}

// One tensor line; `rule` tells what is wrong with it, if anything.
std::optional<ManifestTensor> ReadTensor(const Json& json, const std::map<int, int64_t>& files, std::string* rule) {
  *rule = "must be [name, dtype, shape, slices]";
  if (!json.is_array() || json.size() != 4 || !json[0].is_string() || !json[1].is_string()) return std::nullopt;
  if (!IsNumbers(json[2]) || json[2].size() > 4 || !IsNumbers(json[3])) return std::nullopt;
  ManifestTensor tensor;
  tensor.name = json[0].get<std::string>();
  *rule = "dtype must be float32, bfloat16 or int32";
  const std::optional<DType> dtype = DTypeNamed(json[1].get<std::string>());
  if (!dtype) return std::nullopt;
  tensor.dtype = *dtype;
  *rule = "dims must be at least 1";
  if (!ReadShape(json[2].get<std::vector<int64_t>>(), &tensor.shape)) return std::nullopt;

  const auto numbers = json[3].get<std::vector<int64_t>>();
  const size_t dims = json[2].size(), per_slice = 3 + 2 * dims;
  *rule = absl::StrCat("slices must have ", per_slice, " numbers each");
  if (numbers.size() % per_slice != 0) return std::nullopt;
  for (size_t at = 0; at < numbers.size(); at += per_slice) {
    const std::span<const int64_t> values = std::span(numbers).subspan(at, per_slice);
    ManifestSlice slice;
    slice.byte_offset = values[1];
    slice.crc = static_cast<uint32_t>(values[2]);
    for (size_t i = 0; i < dims; ++i) slice.box.offset.push_back(std::max<int64_t>(values[3 + i], 0));
    *rule = absl::StrCat("slice ", at / per_slice, " must lie within the tensor");
    if (!ReadShape(values.subspan(3 + dims), &slice.box.extent)) return std::nullopt;
    for (int i = 0; i < tensor.shape.rank(); ++i) {
      if (slice.box.offset[i] > tensor.shape[i] - slice.box.extent[i]) return std::nullopt;
    }
    *rule = absl::StrCat("slice ", at / per_slice, " must lie within its file");
    const int64_t bytes = slice.box.extent.elements() * static_cast<int64_t>(SizeOf(tensor.dtype));
    if (values[0] < 0 || values[0] > std::numeric_limits<int>::max()) return std::nullopt;
    slice.rank = static_cast<int>(values[0]);
    const auto file = files.find(slice.rank);
    if (file == files.end() || slice.byte_offset < 0 || slice.byte_offset > file->second - bytes) return std::nullopt;
    tensor.slices.push_back(slice);
  }
  return tensor;
}

}  // namespace

std::string DataFileName(int rank) { return absl::StrFormat("rank-%05d.bin", rank); }

std::string ToString(const Box& box) { return box.offset.ToString() + "+" + box.extent.ToString(); }

std::string EncodeManifest(const Manifest& manifest) {
  std::string text = absl::StrCat("{\"format\":", Quoted(kFormat), ",\"version\":", kManifestVersion,
                                  ",\n\"step\":", manifest.step, ",\n\"model\":", Quoted(manifest.model),
                                  ",\n\"trainer_state\":", Quoted(manifest.trainer_state), ",\n\"files\":[");
  const char* separator = "";
  for (const auto& [rank, bytes] : manifest.file_bytes) {
    absl::StrAppend(&text, separator, "[", rank, ",", bytes, "]");
    separator = ",";
  }
  absl::StrAppend(&text, "],\n\"tensors\":[\n");
  separator = "";
  for (const ManifestTensor& tensor : manifest.tensors) {
    absl::StrAppend(&text, separator, "[", Quoted(tensor.name), ",\"", Name(tensor.dtype), "\",[",
                    Numbers(tensor.shape), "],[");
    separator = "";
    for (const ManifestSlice& slice : tensor.slices) {
      absl::StrAppend(&text, separator, slice.rank, ",", slice.byte_offset, ",", slice.crc);
      AppendDims(slice.box.offset, [&](int64_t dim) { absl::StrAppend(&text, ",", dim); });
      AppendDims(slice.box.extent, [&](int64_t dim) { absl::StrAppend(&text, ",", dim); });
      separator = ",";
    }
    absl::StrAppend(&text, "]]");
    separator = ",\n";
  }
  absl::StrAppend(&text, manifest.tensors.empty() ? "],\n" : "\n],\n");
  return text + Trailer(text);
}

absl::StatusOr<Manifest> DecodeManifest(const std::string& text, const std::string& path) {
  const auto wrong = [&](const std::string& what) { return absl::DataLossError(path + ": " + what); };
  const size_t trailer = Trailer("").size();
  if (text.size() < trailer) return wrong(absl::StrCat("truncated: ", text.size(), " bytes"));
  const absl::string_view body(text.data(), text.size() - trailer);
  if (!absl::EndsWith(text, Trailer(body))) {
    return wrong(absl::StrFormat("damaged or truncated: its last line must be %s for the %d bytes before it",
                                 absl::StripAsciiWhitespace(Trailer(body)), body.size()));
  }

  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.value("format", Json()) != kFormat) return wrong("not a manifest of a checkpoint");
  const Json version = json.value("version", Json());
  if (version != kManifestVersion) {
    return absl::UnimplementedError(absl::StrCat(path, ": format version ", version.dump(), ", but this program reads ",
                                                 "version ", kManifestVersion, " only"));
  }
  const Json step = json.value("step", Json()), model = json.value("model", Json());
  const Json state = json.value("trainer_state", Json()), files = json.value("files", Json());
  const Json tensors = json.value("tensors", Json());
  if (!step.is_number_unsigned()) return wrong("step: must be a number");
  if (!model.is_string()) return wrong("model: must be a string");
  if (!state.is_string()) return wrong("trainer_state: must be a string");
  if (!files.is_array()) return wrong("files: must be an array");
  if (!tensors.is_array()) return wrong("tensors: must be an array");

  Manifest manifest;
  manifest.step = step.get<int64_t>();
  manifest.model = model.get<std::string>();
  manifest.trainer_state = state.get<std::string>();
  for (const Json& file : files) {
    if (!IsNumbers(file) || file.size() != 2) return wrong("files: " + file.dump() + " must be [rank, bytes]");
    manifest.file_bytes[file[0].get<int>()] = file[1].get<int64_t>();
  }
  for (const Json& json_tensor : tensors) {
    std::string rule;
    std::optional<ManifestTensor> tensor = ReadTensor(json_tensor, manifest.file_bytes, &rule);
    if (!tensor) return wrong("tensors: " + json_tensor.dump().substr(0, 80) + ": " + rule);
    if (!manifest.tensors.empty() && manifest.tensors.back().name >= tensor->name) {
      return wrong("tensors: " + json_tensor[0].dump() + ": names must be ascending");
    }
    manifest.tensors.push_back(std::move(*tensor));
  }
  return manifest;
}

void CheckTiling(const ManifestTensor& tensor) {
  // Disjoint slices whose elements add up to the tensor's tile it. Sorted by their first row, a slice can only overlap
  // those that follow it and begin above its end, which are few for the cuts that layouts make.
  std::vector<const Box*> boxes;
  int64_t elements = 0;
  for (const ManifestSlice& slice : tensor.slices) {
    boxes.push_back(&slice.box);
    elements += slice.box.extent.elements();
  }
  const int dims = tensor.shape.rank();
  const auto begin = [&](const Box* box) { return dims == 0 ? 0 : box->offset[0]; };
  std::sort(boxes.begin(), boxes.end(), [&](const Box* a, const Box* b) { return begin(a) < begin(b); });
  for (size_t i = 0; i < boxes.size(); ++i) {
    const int64_t end = dims == 0 ? 1 : boxes[i]->offset[0] + boxes[i]->extent[0];
    for (size_t j = i + 1; j < boxes.size() && begin(boxes[j]) < end; ++j) {
      bool overlap = true;
      for (int d = 1; d < dims; ++d) {
        overlap = overlap && boxes[i]->offset[d] < boxes[j]->offset[d] + boxes[j]->extent[d] &&
                  boxes[j]->offset[d] < boxes[i]->offset[d] + boxes[i]->extent[d];
      }
      CHECK(!overlap) << "tensor \"" << tensor.name << "\": slices " << ToString(*boxes[i]) << " and "
                      << ToString(*boxes[j]) << " overlap";
    }
  }
  CHECK_EQ(elements, tensor.shape.elements())
      << "tensor \"" << tensor.name << "\" " << tensor.shape << ": the slices leave a part of it to no rank";
}

}  // namespace trefoil
