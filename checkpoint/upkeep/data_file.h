// The chunks of one data file, in the order in which they lie in it: what verifying and copying go by. Internal to
// checkpoint/upkeep/.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/checked_files.h"

namespace trefoil {

struct DataFile {
  PartEntry entry;
  std::vector<ManifestTensor> tensors;
  std::vector<Chunk> chunks;  // point into `tensors`

  DataFile() = default;
  DataFile(DataFile&&) = default;
  DataFile& operator=(DataFile&&) = default;
  // Of the chunk in the file.
  static int64_t BeginOf(const Chunk& chunk) { return chunk.slice->byte_offset + chunk.begin(); }
  static int64_t BytesOf(const Chunk& chunk) { return chunk.end() - chunk.begin(); }
};

// From its part of the manifest in `folder`. DataLoss unless the slices lie back to back from the file's first byte to
// its last: so that who has seen every chunk has seen every byte.
absl::StatusOr<DataFile> ChunksOf(FileSystem& fs, const std::string& folder, const Manifest& manifest,
                                  const PartEntry& entry);

}  // namespace trefoil
