#include "checkpoint/upkeep/data_file.h"

#include <absl/strings/str_cat.h>

#include <algorithm>

namespace trefoil {

absl::StatusOr<DataFile> ChunksOf(FileSystem& fs, const std::string& folder, const Manifest& manifest,
                                  const PartEntry& entry) {
  DataFile file;
  file.entry = entry;
  TREFOIL_ASSIGN_OR_RETURN(file.tensors, ReadSlicesOf(fs, folder, manifest, entry));
  for (const ManifestTensor& tensor : file.tensors) {
    for (const ManifestSlice& slice : tensor.slices) {
      for (size_t i = 0; i < slice.crcs.size(); ++i) file.chunks.push_back({&tensor, &slice, i});
    }
  }
  std::sort(file.chunks.begin(), file.chunks.end(),
            [](const Chunk& a, const Chunk& b) { return DataFile::BeginOf(a) < DataFile::BeginOf(b); });
  int64_t at = 0;
  const auto gap = [&](int64_t next) {
    return absl::DataLossError(absl::StrCat(folder, "/", DataFileName(entry.rank), ": bytes ", std::min(at, next), " to ",
                                            std::max(at, next), " are ", at < next ? "of no slice" : "of two slices"));
  };
  for (const Chunk& chunk : file.chunks) {
    if (DataFile::BeginOf(chunk) != at) return gap(DataFile::BeginOf(chunk));
    at += DataFile::BytesOf(chunk);
  }
  if (at != entry.file_bytes) return gap(entry.file_bytes);
  return file;
}

}  // namespace trefoil
