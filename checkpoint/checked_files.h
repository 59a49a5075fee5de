// The files of a checkpoint as whoever reads them reads them: each checked against what vouches for it. The manifest
// vouches for itself and for its parts and the sizes of data files, a part for the bytes of a data file.
//
//   TREFOIL_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(fs, folder));
//   for (const PartEntry& entry : manifest.parts) {
//     TREFOIL_ASSIGN_OR_RETURN(const auto tensors, ReadSlicesOf(fs, folder, manifest, entry));
//     TREFOIL_ASSIGN_OR_RETURN(const auto file, OpenDataFile(fs, folder, entry));
//     ... of the slices of `tensors`: ReadChunk(*file, path, chunk, buffer, use) ...
//   }
//
// Failure: the file is named, and of data files the tensor, the slice and its bytes. DataLoss for what is not what was
// written.
// Threads: any, with a file each. Internal to checkpoint/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/slices.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

absl::StatusOr<Manifest> ReadManifest(FileSystem& fs, const std::string& folder);
// The slices in the data file of a part: what the part says, or the manifest of a version without parts. Sorted by name.
absl::StatusOr<std::vector<ManifestTensor>> ReadSlicesOf(FileSystem& fs, const std::string& folder,
                                                         const Manifest& manifest, const PartEntry& entry);
// An error unless it has the size that it must have. None of it is read.
absl::StatusOr<std::unique_ptr<ReadableFile>> OpenDataFile(FileSystem& fs, const std::string& folder,
                                                           const PartEntry& entry);

// A piece of a slice that has a checksum of its own.
struct Chunk {
  const ManifestTensor* tensor = nullptr;
  const ManifestSlice* slice = nullptr;
  size_t number = 0;
  int64_t begin() const { return static_cast<int64_t>(number) * slice->chunk_bytes; }  // byte of the slice
  int64_t end() const;
  uint32_t crc() const { return slice->crcs[number]; }
};

// DataLoss unless `crc` is that of the chunk. `path`: of the file.
absl::Status CheckChunk(const Chunk& chunk, uint32_t crc, const std::string& path);

// A chunk is read a block at a time: a multiple of every element size, so that no element straddles two blocks.
inline constexpr int64_t kReadBlock = 1 << 20;
// Reads a chunk through `buffer`, of kReadBlock bytes. `use` gets its blocks in order, with the byte of the slice at
// which each begins, before the checksum is known: an error means that what it got is not what was written.
absl::Status ReadChunk(const ReadableFile& file, const std::string& path, const Chunk& chunk,
                       std::span<std::byte> buffer,
                       const std::function<void(int64_t at, std::span<const std::byte> block)>& use);

}  // namespace trefoil
