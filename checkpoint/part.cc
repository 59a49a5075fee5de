#include "checkpoint/part.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <optional>
#include <utility>

#include "checkpoint/manifest_text.h"
#include "runtime/files/crc32c.h"

// rank-%05d.json, exactly, line by line, as manifest.json (manifest.cc):
//
//   part   = `{"format":"trefoil checkpoint part","version":3,`
//            `"rank":` number `,`
//            `"bytes":` number `,`                            of rank-%05d.bin
//            `"tensors":[`
//            [ tensor { `,\n` tensor } ]
//            `],`
//            `"crc32c":"` hex8 `"}`
//   tensor = `[` name `,` dtype `,[` shape `],[` [ slice { `,` slice } ] `]]`       sorted by name
//   slice  = byte offset in the file `,` offset `,` extent { `,` crc32c of a chunk }     plain numbers
//
// shape, offset and extent have as many numbers as the tensor has dims. A slice is the box [offset, offset + extent),
// row-major, little-endian, product(extent) * element size bytes; it has as many checksums as chunks of ChunkBytes
// (slices.h).
//
// Example, rank 1's of the one in manifest.cc:
//
//   {"format":"trefoil checkpoint part","version":3,
//   "rank":1,
//   "bytes":28,
//   "tensors":[
//   ["count","int32",[],[24,3713320107]],
//   ["w","float32",[4,3],[0,2,0,2,3,520318861]]
//   ],
//   "crc32c":"b3609454"}

namespace trefoil {
namespace {

using Json = nlohmann::json;

constexpr char kFormat[] = "trefoil checkpoint part";

}  // namespace

std::string EncodePart(const ManifestPart& part) {
  std::string text = absl::StrCat("{\"format\":", Quoted(kFormat), ",\"version\":", kManifestVersion,
                                  ",\n\"rank\":", part.rank, ",\n\"bytes\":", part.file_bytes, ",\n\"tensors\":[\n");
  const char* separator = "";
  for (const ManifestTensor& tensor : part.tensors) {
    absl::StrAppend(&text, separator, TensorLine(tensor));
    separator = ",\n";
  }
  absl::StrAppend(&text, part.tensors.empty() ? "],\n" : "\n],\n");
  return WithChecksum(text);
}

absl::StatusOr<ManifestPart> DecodePart(const std::string& text, const std::string& path, const Manifest& manifest,
                                        const PartEntry& entry) {
  const auto wrong = [&](const std::string& what) { return absl::DataLossError(path + ": " + what); };
  const auto bytes = static_cast<int64_t>(text.size());
  if (bytes != entry.part_bytes) {
    return wrong(absl::StrCat(bytes < entry.part_bytes ? "truncated: " : "too long: ", bytes, " bytes, but must be ",
                              entry.part_bytes));
  }
  if (const uint32_t crc = Crc32c(text); crc != entry.part_crc) {
    return wrong(absl::StrFormat("damaged: CRC32C is %08x, but must be %08x", crc, entry.part_crc));
  }
  TREFOIL_ASSIGN_OR_RETURN(const Json json, ParseChecked(text, path, kFormat, "a part of a checkpoint's manifest"));
  if (NumberIn(json, "rank") != entry.rank) return wrong(absl::StrCat("rank: must be ", entry.rank));
  if (NumberIn(json, "bytes") != entry.file_bytes) return wrong(absl::StrCat("bytes: must be ", entry.file_bytes));
  const Json tensors = json.value("tensors", Json());
  if (!tensors.is_array()) return wrong("tensors: must be an array");
  ManifestPart part = {.rank = entry.rank, .file_bytes = entry.file_bytes, .tensors = {}};
  for (const Json& line : tensors) {
    std::string rule;
    std::optional<ManifestTensor> tensor =
        ReadTensor(line, kManifestVersion, entry.rank, {{entry.rank, entry.file_bytes}}, &rule);
    if (!tensor) return wrong("tensors: " + line.dump().substr(0, 80) + ": " + rule);
    if (!part.tensors.empty() && part.tensors.back().name >= tensor->name) {
      return wrong("tensors: " + line[0].dump() + ": names must be ascending");
    }
    const TensorEntry* const known = FindNamed(manifest.tensors, tensor->name);
    if (known == nullptr || known->dtype != tensor->dtype || known->shape != tensor->shape) {
      return wrong("tensors: " + line[0].dump() + ": is not a tensor of the manifest");
    }
    part.tensors.push_back(*std::move(tensor));
  }
  return part;
}

}  // namespace trefoil
