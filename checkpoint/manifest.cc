#include "checkpoint/manifest.h"

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <glog/logging.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "runtime/files/crc32c.h"

// manifest.json, exactly, line by line (a line ends with \n; no other white space):
//
//   manifest = `{"format":"trefoil checkpoint","version":2,`
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
//   slice    = rank `,` byte offset in its file `,` offset `,` extent { `,` crc32c of a chunk }     plain numbers
//
// dtype is "float32", "bfloat16" or "int32"; shape, offset and extent have as many numbers as the tensor has dims. A
// slice is the box [offset, offset + extent), row-major, little-endian, product(extent) * element size bytes; it has as
// many checksums as chunks of ChunkBytes (manifest.h). hex8 is the CRC32C of every byte before the line that bears it.
// That last line is the same in every version.
//
// Version 1, which is read too, has for a slice: rank, byte offset, crc32c of all its bytes, offset, extent.
//
// Example: a float32 tensor "w" of 4 x 3, its upper two rows written by rank 0 and the lower two by rank 1, and an
// int32 scalar "count" written by rank 1 behind them:
//
//   {"format":"trefoil checkpoint","version":2,
//   "step":100,
//   "model":"layers: 1",
//   "trainer_state":"samples: 3200",
//   "files":[[0,24],[1,28]],
//   "tensors":[
//   ["count","int32",[],[1,24,3713320107]],
//   ["w","float32",[4,3],[0,0,0,0,2,3,2152793273,1,0,2,0,2,3,520318861]]
//   ],
//   "crc32c":"b7f8a1e7"}

namespace trefoil {
namespace {

using Json = nlohmann::json;

constexpr char kFormat[] = "trefoil checkpoint";
constexpr uint64_t kMostRanks = std::numeric_limits<int>::max();

std::string Quoted(const std::string& text) {
  const std::string quoted = Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
  CHECK(Json::parse(quoted).get<std::string>() == text) << "not UTF-8: " << quoted;
  return quoted;
}

int64_t Chunks(int64_t slice_bytes, int64_t chunk_bytes) { return (slice_bytes + chunk_bytes - 1) / chunk_bytes; }

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

// One slice of `tensor` from the front of `numbers`, which loses them; `rule` tells what is wrong with it, if anything.
std::optional<ManifestSlice> ReadSlice(std::span<const int64_t>* numbers, int64_t version, const ManifestTensor& tensor,
                                       const std::map<int, int64_t>& files, std::string* rule) {
  const auto dims = static_cast<size_t>(tensor.shape.rank());
  const auto take = [&](size_t count) {
    const std::span<const int64_t> values = numbers->first(std::min(count, numbers->size()));
    *numbers = numbers->subspan(values.size());
    return values;
  };
  *rule = "must have its numbers";
  ManifestSlice slice;
  const auto place = take(2);
  const auto whole_crc = take(version == 1 ? 1 : 0);
  const auto offset = take(dims), extent = take(dims);
  if (place.size() < 2 || extent.size() < dims || (version == 1 && whole_crc.empty())) return std::nullopt;
  *rule = "must lie within the tensor";
  if (!ReadShape(extent, &slice.box.extent)) return std::nullopt;
  for (size_t i = 0; i < dims; ++i) {
    const int d = static_cast<int>(i);
    if (offset[i] < 0 || offset[i] > tensor.shape[d] - slice.box.extent[d]) return std::nullopt;
    slice.box.offset.push_back(offset[i]);
  }
  *rule = "must lie within its file";
  const int64_t bytes = slice.box.extent.elements() * static_cast<int64_t>(SizeOf(tensor.dtype));
  if (place[0] < 0 || place[0] > std::numeric_limits<int>::max()) return std::nullopt;
  slice.rank = static_cast<int>(place[0]);
  slice.byte_offset = place[1];
  const auto file = files.find(slice.rank);
  if (file == files.end() || slice.byte_offset < 0 || slice.byte_offset > file->second - bytes) return std::nullopt;
  slice.chunk_bytes = version == 1 ? bytes : ChunkBytes(bytes);
  const auto crcs = version == 1 ? whole_crc : take(static_cast<size_t>(Chunks(bytes, slice.chunk_bytes)));
  *rule = "must have a checksum of 32 bits for each chunk";
  if (static_cast<int64_t>(crcs.size()) != Chunks(bytes, slice.chunk_bytes)) return std::nullopt;
  for (const int64_t crc : crcs) {
    if (crc < 0 || crc > std::numeric_limits<uint32_t>::max()) return std::nullopt;
    slice.crcs.push_back(static_cast<uint32_t>(crc));
  }
  return slice;
}

// One tensor line; `rule` tells what is wrong with it, if anything.
std::optional<ManifestTensor> ReadTensor(const Json& json, int64_t version, const std::map<int, int64_t>& files,
                                         std::string* rule) {
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
  for (std::span<const int64_t> left = numbers; !left.empty();) {
    std::string slice_rule;
    std::optional<ManifestSlice> slice = ReadSlice(&left, version, tensor, files, &slice_rule);
    *rule = absl::StrCat("slice ", tensor.slices.size(), " ", slice_rule);
    if (!slice) return std::nullopt;
    tensor.slices.push_back(std::move(*slice));
  }
  return tensor;
}

}  // namespace

int64_t ChunkBytes(int64_t slice_bytes) {
  constexpr int64_t kMiB = 1 << 20, kMostChunks = 64;
  return std::max<int64_t>(1, (slice_bytes + kMostChunks * kMiB - 1) / (kMostChunks * kMiB)) * kMiB;
}

std::string DataFileName(int rank) { return absl::StrFormat("rank-%05d.bin", rank); }

std::string ToString(const Box& box) { return box.offset.ToString() + "+" + box.extent.ToString(); }

ManifestTensor& TensorNamed(TensorsByName& tensors, const std::string& name, DType dtype, const Shape& shape) {
  const auto [it, fresh] = tensors.try_emplace(name, ManifestTensor{name, dtype, shape, {}});
  CHECK(it->second.dtype == dtype && it->second.shape == shape)
      << "tensor \"" << name << "\": declared as " << Name(it->second.dtype) << " " << it->second.shape << " and as "
      << Name(dtype) << " " << shape;
  return it->second;
}

std::vector<ManifestTensor> ValuesOf(TensorsByName tensors) {
  std::vector<ManifestTensor> values;
  for (auto& [name, tensor] : tensors) values.push_back(std::move(tensor));
  return values;
}

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
      absl::StrAppend(&text, separator, slice.rank, ",", slice.byte_offset);
      AppendDims(slice.box.offset, [&](int64_t dim) { absl::StrAppend(&text, ",", dim); });
      AppendDims(slice.box.extent, [&](int64_t dim) { absl::StrAppend(&text, ",", dim); });
      for (const uint32_t crc : slice.crcs) absl::StrAppend(&text, ",", crc);
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
  if (!version.is_number_unsigned() || version < 1 || version > kManifestVersion) {
    return absl::UnimplementedError(absl::StrCat(path, ": format version ", version.dump(), ", but this program reads ",
                                                 "versions 1 to ", kManifestVersion, " only"));
  }
  const Json step = json.value("step", Json()), model = json.value("model", Json());
  const Json state = json.value("trainer_state", Json()), files = json.value("files", Json());
  const Json tensors = json.value("tensors", Json());
  if (!step.is_number_unsigned() || step.get<int64_t>() < 0) return wrong("step: must be a number");
  if (!model.is_string()) return wrong("model: must be a string");
  if (!state.is_string()) return wrong("trainer_state: must be a string");
  if (!files.is_array()) return wrong("files: must be an array");
  if (!tensors.is_array()) return wrong("tensors: must be an array");

  Manifest manifest;
  manifest.step = step.get<int64_t>();
  manifest.model = model.get<std::string>();
  manifest.trainer_state = state.get<std::string>();
  for (const Json& file : files) {
    const bool fits = IsNumbers(file) && file.size() == 2 && file[0].get<uint64_t>() <= kMostRanks &&
                      file[1].get<uint64_t>() <= std::numeric_limits<int64_t>::max();
    if (!fits || !manifest.file_bytes.emplace(file[0].get<int>(), file[1].get<int64_t>()).second) {
      return wrong("files: " + file.dump() + " must be [rank, bytes], each rank once");
    }
  }
  for (const Json& json_tensor : tensors) {
    std::string rule;
    std::optional<ManifestTensor> tensor = ReadTensor(json_tensor, version.get<int64_t>(), manifest.file_bytes, &rule);
    if (!tensor) return wrong("tensors: " + json_tensor.dump().substr(0, 80) + ": " + rule);
    if (!manifest.tensors.empty() && manifest.tensors.back().name >= tensor->name) {
      return wrong("tensors: " + json_tensor[0].dump() + ": names must be ascending");
    }
    if (const std::string error = TilingError(*tensor); !error.empty()) {
      return wrong("tensor " + json_tensor[0].dump() + " " + tensor->shape.ToString() + ": " + error);
    }
    manifest.tensors.push_back(std::move(*tensor));
  }
  return manifest;
}

std::string PackManifest(const Manifest& manifest) {
  std::string packed;
  const auto number = [&](int64_t value) { packed.append(reinterpret_cast<const char*>(&value), sizeof(value)); };
  const auto text = [&](const std::string& value) {
    number(static_cast<int64_t>(value.size()));
    packed += value;
  };
  number(manifest.step);
  text(manifest.trainer_state);
  text(manifest.model);
  number(static_cast<int64_t>(manifest.file_bytes.size()));
  for (const auto& [rank, bytes] : manifest.file_bytes) {
    number(rank);
    number(bytes);
  }
  number(static_cast<int64_t>(manifest.tensors.size()));
  for (const ManifestTensor& tensor : manifest.tensors) {
    text(tensor.name);
    number(static_cast<int64_t>(tensor.dtype));
    number(tensor.shape.rank());
    AppendDims(tensor.shape, number);
    number(static_cast<int64_t>(tensor.slices.size()));
    for (const ManifestSlice& slice : tensor.slices) {
      number(slice.rank);
      number(slice.byte_offset);
      AppendDims(slice.box.offset, number);
      AppendDims(slice.box.extent, number);
      number(slice.chunk_bytes);
      number(static_cast<int64_t>(slice.crcs.size()));
      packed.append(reinterpret_cast<const char*>(slice.crcs.data()), slice.crcs.size() * sizeof(uint32_t));
    }
  }
  return packed;
}

Manifest UnpackManifest(const std::string& packed) {
  size_t at = 0;
  const auto take = [&](void* to, size_t bytes) {
    CHECK_LE(bytes, packed.size() - at);
    std::memcpy(to, packed.data() + at, bytes);
    at += bytes;
  };
  const auto number = [&] {
    int64_t value;
    take(&value, sizeof(value));
    return value;
  };
  const auto text = [&] {
    std::string value(static_cast<size_t>(number()), '\0');
    take(value.data(), value.size());
    return value;
  };
  const auto dims = [&](int64_t count) {
    Shape shape;
    for (int64_t i = 0; i < count; ++i) shape.push_back(number());
    return shape;
  };
  Manifest manifest;
  manifest.step = number();
  manifest.trainer_state = text();
  manifest.model = text();
  for (int64_t files = number(); files > 0; --files) {
    const auto rank = static_cast<int>(number());
    manifest.file_bytes[rank] = number();
  }
  manifest.tensors.resize(static_cast<size_t>(number()));
  for (ManifestTensor& tensor : manifest.tensors) {
    tensor.name = text();
    tensor.dtype = static_cast<DType>(number());
    tensor.shape = dims(number());
    tensor.slices.resize(static_cast<size_t>(number()));
    for (ManifestSlice& slice : tensor.slices) {
      slice.rank = static_cast<int32_t>(number());
      slice.byte_offset = number();
      slice.box.offset = dims(tensor.shape.rank());
      slice.box.extent = dims(tensor.shape.rank());
      slice.chunk_bytes = number();
      slice.crcs.resize(static_cast<size_t>(number()));
      take(slice.crcs.data(), slice.crcs.size() * sizeof(uint32_t));
    }
  }
  CHECK_EQ(at, packed.size());
  return manifest;
}

std::string TilingError(const ManifestTensor& tensor) {
  // Disjoint slices whose elements add up to the tensor's tile it. Sorted by their first row, a slice can only overlap
  // those that follow it and begin above its end, which are few for the cuts that layouts make.
  std::vector<const Box*> boxes;
  for (const ManifestSlice& slice : tensor.slices) boxes.push_back(&slice.box);
  const int dims = tensor.shape.rank();
  const auto begin = [&](const Box* box) { return dims == 0 ? 0 : box->offset[0]; };
  std::sort(boxes.begin(), boxes.end(), [&](const Box* a, const Box* b) { return begin(a) < begin(b); });
  int64_t elements = 0;
  for (size_t i = 0; i < boxes.size(); ++i) {
    const int64_t end = dims == 0 ? 1 : boxes[i]->offset[0] + boxes[i]->extent[0];
    for (size_t j = i + 1; j < boxes.size() && begin(boxes[j]) < end; ++j) {
      bool overlap = true;
      for (int d = 1; d < dims; ++d) {
        overlap = overlap && boxes[i]->offset[d] < boxes[j]->offset[d] + boxes[j]->extent[d] &&
                  boxes[j]->offset[d] < boxes[i]->offset[d] + boxes[i]->extent[d];
      }
      if (overlap) return "slices " + ToString(*boxes[i]) + " and " + ToString(*boxes[j]) + " overlap";
    }
    elements += boxes[i]->extent.elements();  // of disjoint boxes within the tensor: no more than it has
  }
  if (elements == tensor.shape.elements()) return "";
  return absl::StrCat("the slices leave a part of it to no rank: they hold ", elements, " of ", tensor.shape.elements(),
                      " elements");
}

}  // namespace trefoil
