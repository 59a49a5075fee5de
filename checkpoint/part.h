// A part of the manifest: one rank's slices, and where they lie in its file. Written beside that file, by the rank that
// wrote it; whoever has the two can check the file and use what is in it, whatever became of the other ranks' files.
// Internal to checkpoint/.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/slices.h"
#include "runtime/status.h"

namespace trefoil {

struct ManifestPart {
  int rank = 0;
  int64_t file_bytes = 0;               // of rank-NNNNN.bin
  std::vector<ManifestTensor> tensors;  // sorted by name
};

// A part on disk, and what the manifest says of it. Of a rank that had nothing to write there are no files.
struct WrittenPart {
  ManifestPart part;
  PartEntry entry;
  bool has_files() const { return part.file_bytes > 0; }
};

std::string EncodePart(const ManifestPart& part);
// `path` is for messages. Checks that the text is the one that `entry` of `manifest` is about, and everything that reading
// relies on: the checksum, that the tensors are those of the manifest, that slices lie within their tensor and their
// bytes within the file.
absl::StatusOr<ManifestPart> DecodePart(const std::string& text, const std::string& path, const Manifest& manifest,
                                        const PartEntry& entry);

}  // namespace trefoil
