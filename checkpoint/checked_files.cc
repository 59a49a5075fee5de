#include "checkpoint/checked_files.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <utility>

#include "checkpoint/part.h"
#include "runtime/files/crc32c.h"

namespace trefoil {

absl::StatusOr<Manifest> ReadManifest(FileSystem& fs, const std::string& folder) {
  const std::string path = folder + "/" + kManifestFile;
  TREFOIL_ASSIGN_OR_RETURN(const std::string text, ReadFile(fs, path));
  return DecodeManifest(text, path);
}

absl::StatusOr<std::vector<ManifestTensor>> ReadSlicesOf(FileSystem& fs, const std::string& folder,
                                                         const Manifest& manifest, const PartEntry& entry) {
  if (manifest.has_parts) {
    const std::string path = folder + "/" + PartFileName(entry.rank);
    TREFOIL_ASSIGN_OR_RETURN(const std::string text, ReadFile(fs, path));
    TREFOIL_ASSIGN_OR_RETURN(ManifestPart part, DecodePart(text, path, manifest, entry));
    return std::move(part.tensors);
  }
  std::vector<ManifestTensor> tensors;
  for (const ManifestTensor& tensor : manifest.slices) {
    ManifestTensor here = {.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape, .slices = {}};
    std::copy_if(tensor.slices.begin(), tensor.slices.end(), std::back_inserter(here.slices),
                 [&](const ManifestSlice& slice) { return slice.rank == entry.rank; });
    if (!here.slices.empty()) tensors.push_back(std::move(here));
  }
  return tensors;
}

absl::StatusOr<std::unique_ptr<ReadableFile>> OpenDataFile(FileSystem& fs, const std::string& folder,
                                                           const PartEntry& entry) {
  const std::string path = folder + "/" + DataFileName(entry.rank);
  TREFOIL_ASSIGN_OR_RETURN(std::unique_ptr<ReadableFile> file, fs.Open(path));
  if (file->size() == entry.file_bytes) return file;
  return absl::DataLossError(absl::StrCat(path, ": ", file->size() < entry.file_bytes ? "truncated: " : "too long: ",
                                          file->size(), " bytes, but must be ", entry.file_bytes));
}

int64_t Chunk::end() const {
  return std::min(begin() + slice->chunk_bytes,
                  slice->box.extent.elements() * static_cast<int64_t>(SizeOf(tensor->dtype)));
}

absl::Status CheckChunk(const Chunk& chunk, uint32_t crc, const std::string& path) {
  if (crc == chunk.crc()) return absl::OkStatus();
  const int64_t offset = chunk.slice->byte_offset;
  return absl::DataLossError(absl::StrFormat(
      "%s: damaged: tensor \"%s\", slice %s, bytes %d to %d: CRC32C is %08x, but must be %08x", path, chunk.tensor->name,
      ToString(chunk.slice->box), offset + chunk.begin(), offset + chunk.end(), crc, chunk.crc()));
}

absl::Status ReadChunk(const ReadableFile& file, const std::string& path, const Chunk& chunk,
                       std::span<std::byte> buffer,
                       const std::function<void(int64_t at, std::span<const std::byte> block)>& use) {
  const int64_t offset = chunk.slice->byte_offset, end = chunk.end();
  uint32_t crc = 0;
  for (int64_t at = chunk.begin(); at < end; at += kReadBlock) {
    const auto block = buffer.first(static_cast<size_t>(std::min(kReadBlock, end - at)));
    TREFOIL_RETURN_IF_ERROR(file.Read(offset + at, block));
    crc = Crc32c(block, crc);
    use(at, block);
  }
  return CheckChunk(chunk, crc, path);
}

}  // namespace trefoil
