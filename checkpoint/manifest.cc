#include "checkpoint/manifest.h"

#include <absl/strings/str_cat.h>

#include <limits>
#include <optional>
#include <utility>

#include "checkpoint/bands.h"
#include "checkpoint/manifest_text.h"

// manifest.json, exactly, line by line (a line ends with \n; no other white space):
//
//   manifest = `{"format":"trefoil checkpoint","version":3,`
//              `"step":` number `,`
//              `"model":` string `,`
//              `"trainer_state":` string `,`
//              `"parts":[`
//              [ part { `,\n` part } ]
//              `],`
//              `"tensors":[`
//              [ tensor { `,\n` tensor } ]
//              `],`
//              `"crc32c":"` hex8 `"}`
//   part     = `[` rank `,` bytes of rank-%05d.bin `,` bytes of rank-%05d.json `,` crc32c of those `]`
//              ascending by rank; ranks without files are left out; plain numbers
//   tensor   = `[` name `,` dtype `,[` shape `],` bands `]`      sorted by name
//
// dtype is "float32", "bfloat16" or "int32"; bands: checkpoint/bands.h. hex8 is the CRC32C of every byte before the line
// that bears it. That last line is the same in every version.
//
// Versions 1 and 2, which are read too, have the slices of all ranks:
//
//              `"files":[` [ `[` rank `,` bytes `]` { `,` ... } ] `],`                 instead of the parts
//   tensor   = `[` name `,` dtype `,[` shape `],[` [ slice { `,` slice } ] `]]`
//   slice    = rank `,` byte offset in its file `,` offset `,` extent { `,` crc32c of a chunk }       in version 2
//            = rank `,` byte offset in its file `,` crc32c of all its bytes `,` offset `,` extent     in version 1
//
// Example: a float32 tensor "w" of 4 x 3, its upper two rows written by rank 0 and the lower two by rank 1, and an
// int32 scalar "count" written by rank 1 behind them (part.cc has rank 1's part):
//
//   {"format":"trefoil checkpoint","version":3,
//   "step":100,
//   "model":"layers: 1",
//   "trainer_state":"samples: 3200",
//   "parts":[
//   [0,24,152,3220034578],
//   [1,28,189,579163171]
//   ],
//   "tensors":[
//   ["count","int32",[],1],
//   ["w","float32",[4,3],1]
//   ],
//   "crc32c":"806d2749"}

namespace trefoil {
namespace {

using Json = nlohmann::json;

constexpr char kFormat[] = "trefoil checkpoint";

// The entry of a part, or of a file in the versions without parts.
std::optional<PartEntry> ReadPartEntry(const Json& json, bool has_part) {
  const auto numbers = NumbersOf(json);
  if (!numbers || numbers->size() != (has_part ? 4 : 2)) return std::nullopt;
  if ((*numbers)[0] > std::numeric_limits<int>::max()) return std::nullopt;
  PartEntry entry = {.rank = static_cast<int>((*numbers)[0]), .file_bytes = (*numbers)[1]};
  if (!has_part) return entry;
  if ((*numbers)[3] > std::numeric_limits<uint32_t>::max()) return std::nullopt;
  entry.part_bytes = (*numbers)[2];
  entry.part_crc = static_cast<uint32_t>((*numbers)[3]);
  return entry;
}

std::optional<TensorEntry> ReadTensorEntry(const Json& json, std::string* rule) {
  TensorEntry tensor;
  *rule = "must be [name, dtype, shape, bands]";
  if (!ReadTensorHead(json, 4, &tensor.name, &tensor.dtype, &tensor.shape, rule)) return std::nullopt;
  *rule = "bands must be at least 1 and at most its rows";
  const int64_t rows = tensor.shape.rank() == 0 ? 1 : tensor.shape[0];
  if (!json[3].is_number_unsigned() || json[3] < 1 || json[3] > static_cast<uint64_t>(rows)) return std::nullopt;
  tensor.bands = json[3].get<int64_t>();
  return tensor;
}

// What no manifest of real files breaks, empty: the data files hold the tensors and nothing else, and the parts name 16
// slices or so for each band, which are what looking slices up takes time for.
std::string TotalsError(const Manifest& manifest) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  const auto add = [](int64_t more, int64_t* sum) { *sum = more > kMost - *sum ? kMost : *sum + more; };
  int64_t tensors = 0, bands = 0, files = 0, parts = 0;
  for (const TensorEntry& tensor : manifest.tensors) {
    add(tensor.shape.elements() * static_cast<int64_t>(SizeOf(tensor.dtype)), &tensors);
    add(tensor.bands, &bands);
  }
  for (const PartEntry& part : manifest.parts) {
    add(part.file_bytes, &files);
    add(part.part_bytes, &parts);
  }
  if (tensors != files) {
    return absl::StrCat("tensors: have ", tensors, " bytes, but the data files ", files, "; must be the same");
  }
  if (manifest.has_parts && bands > parts) {
    return absl::StrCat("tensors: have ", bands, " bands, more than the parts have bytes, ", parts);
  }
  return "";
}

}  // namespace

std::map<int, int64_t> Manifest::FileBytes() const {
  std::map<int, int64_t> bytes;
  for (const PartEntry& part : parts) bytes[part.rank] = part.file_bytes;
  return bytes;
}

std::string EncodeManifest(const Manifest& manifest) {
  std::string text = absl::StrCat("{\"format\":", Quoted(kFormat), ",\"version\":", kManifestVersion,
                                  ",\n\"step\":", manifest.step, ",\n\"model\":", Quoted(manifest.model),
                                  ",\n\"trainer_state\":", Quoted(manifest.trainer_state), ",\n\"parts\":[\n");
  const char* separator = "";
  for (const PartEntry& part : manifest.parts) {
    absl::StrAppend(&text, separator, "[", part.rank, ",", part.file_bytes, ",", part.part_bytes, ",", part.part_crc,
                    "]");
    separator = ",\n";
  }
  absl::StrAppend(&text, manifest.parts.empty() ? "],\n" : "\n],\n", "\"tensors\":[\n");
  separator = "";
  for (const TensorEntry& tensor : manifest.tensors) {
    absl::StrAppend(&text, separator, TensorHead(tensor.name, tensor.dtype, tensor.shape), ",", tensor.bands, "]");
    separator = ",\n";
  }
  absl::StrAppend(&text, manifest.tensors.empty() ? "],\n" : "\n],\n");
  return WithChecksum(text);
}

absl::StatusOr<Manifest> DecodeManifest(const std::string& text, const std::string& path) {
  const auto wrong = [&](const std::string& what) { return absl::DataLossError(path + ": " + what); };
  TREFOIL_ASSIGN_OR_RETURN(const Json json, ParseChecked(text, path, kFormat, "a manifest of a checkpoint"));
  const auto version = json["version"].get<int64_t>();
  const bool has_parts = version >= 3;
  const char* const list = has_parts ? "parts" : "files";
  const auto step = NumberIn(json, "step");
  const auto model = StringIn(json, "model"), state = StringIn(json, "trainer_state");
  const Json parts = json.value(list, Json()), tensors = json.value("tensors", Json());
  if (!step) return wrong("step: must be a number");
  if (!model) return wrong("model: must be a string");
  if (!state) return wrong("trainer_state: must be a string");
  if (!parts.is_array()) return wrong(absl::StrCat(list, ": must be an array"));
  if (!tensors.is_array()) return wrong("tensors: must be an array");

  Manifest manifest;
  manifest.step = *step;
  manifest.trainer_state = *state;
  manifest.model = *model;
  manifest.has_parts = has_parts;
  for (const Json& part : parts) {
    const auto entry = ReadPartEntry(part, has_parts);
    if (!entry || (!manifest.parts.empty() && manifest.parts.back().rank >= entry->rank)) {
      return wrong(absl::StrCat(list, ": ", part.dump(), " must be ",
                                has_parts ? "[rank, file's bytes, part's bytes, part's crc32c]" : "[rank, bytes]",
                                ", each rank once, ascending"));
    }
    manifest.parts.push_back(*entry);
  }
  const std::map<int, int64_t> files = manifest.FileBytes();
  for (const Json& line : tensors) {
    std::string rule;
    std::optional<TensorEntry> entry;
    if (has_parts) {
      entry = ReadTensorEntry(line, &rule);
    } else if (auto tensor = ReadTensor(line, version, std::nullopt, files, &rule)) {
      if (const std::string error = TilingError(*tensor); !error.empty()) {
        return wrong("tensor " + line[0].dump() + " " + tensor->shape.ToString() + ": " + error);
      }
      entry = TensorEntry{.name = tensor->name, .dtype = tensor->dtype, .shape = tensor->shape,
                          .bands = BandsFor(tensor->shape, CountOf(tensor->slices))};
      manifest.slices.push_back(*std::move(tensor));
    }
    if (!entry) return wrong("tensors: " + line.dump().substr(0, 80) + ": " + rule);
    if (!manifest.tensors.empty() && manifest.tensors.back().name >= entry->name) {
      return wrong("tensors: " + line[0].dump() + ": names must be ascending");
    }
    manifest.tensors.push_back(*std::move(entry));
  }
  if (const std::string error = TotalsError(manifest); !error.empty()) return wrong(error);
  return manifest;
}

absl::Status CheckTiling(const Manifest& manifest, const std::vector<ManifestTensor>& tensors) {
  static const std::vector<ManifestSlice> kNone;
  for (const TensorEntry& entry : manifest.tensors) {
    const ManifestTensor* const tensor = FindNamed(tensors, entry.name);
    const std::string error =
        TilingError({entry.name, entry.dtype, entry.shape, tensor == nullptr ? kNone : tensor->slices});
    if (error.empty()) continue;
    return absl::DataLossError(absl::StrCat("tensor \"", entry.name, "\" ", entry.shape.ToString(), ": ", error));
  }
  return absl::OkStatus();
}

void Pack(const PartEntry& part, Packer* packer) {
  packer->Number(part.rank);
  packer->Number(part.file_bytes);
  packer->Number(part.part_bytes);
  packer->Number(part.part_crc);
}

PartEntry UnpackPart(Unpacker* unpacker) {
  PartEntry part;
  part.rank = static_cast<int>(unpacker->Number());
  part.file_bytes = unpacker->Number();
  part.part_bytes = unpacker->Number();
  part.part_crc = static_cast<uint32_t>(unpacker->Number());
  return part;
}

std::string PackManifest(const Manifest& manifest) {
  Packer packer;
  packer.Number(manifest.step);
  packer.Text(manifest.trainer_state);
  packer.Text(manifest.model);
  packer.Number(manifest.has_parts ? 1 : 0);
  packer.Number(static_cast<int64_t>(manifest.parts.size()));
  for (const PartEntry& part : manifest.parts) Pack(part, &packer);
  for (const TensorEntry& tensor : manifest.tensors) {
    packer.Tensor(tensor.name, tensor.dtype, tensor.shape);
    packer.Number(tensor.bands);
  }
  return packer.bytes();
}

Manifest UnpackManifest(const std::string& packed) {
  Unpacker unpacker(packed);
  Manifest manifest;
  manifest.step = unpacker.Number();
  manifest.trainer_state = unpacker.Text();
  manifest.model = unpacker.Text();
  manifest.has_parts = unpacker.Number() == 1;
  for (int64_t parts = unpacker.Number(); parts > 0; --parts) manifest.parts.push_back(UnpackPart(&unpacker));
  while (!unpacker.done()) {
    TensorEntry tensor;
    unpacker.Tensor(&tensor.name, &tensor.dtype, &tensor.shape);
    tensor.bands = unpacker.Number();
    manifest.tensors.push_back(std::move(tensor));
  }
  return manifest;
}

}  // namespace trefoil
