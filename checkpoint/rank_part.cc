#include "checkpoint/rank_part.h"

#include <glog/logging.h>

#include <algorithm>
#include <bit>
#include <span>
#include <utility>

#include "checkpoint/part.h"
#include "runtime/files/crc32c.h"

namespace trefoil {
namespace {

static_assert(std::endian::native == std::endian::little, "data files are little-endian");

// Small enough that the checksum leaves the bytes in the cache for the write; divides every chunk of a slice.
constexpr int64_t kBlock = 1 << 20;

// Appends a slice's elements; `crcs` gets the checksum of each chunk.
absl::Status AppendSlice(WritableFile& file, const ShardedTensor& slice, std::vector<uint32_t>* crcs) {
  const int64_t chunk = ChunkBytes(slice.bytes());
  const std::span<const std::byte> bytes(slice.data, static_cast<size_t>(slice.bytes()));
  for (int64_t at = 0; at < slice.bytes(); at += kBlock) {
    const auto block = bytes.subspan(static_cast<size_t>(at),
                                     static_cast<size_t>(std::min(kBlock, slice.bytes() - at)));
    if (at % chunk == 0) crcs->push_back(0);
    crcs->back() = Crc32c(block, crcs->back());
    TREFOIL_RETURN_IF_ERROR(file.Append(block));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RankPart> WriteRankPart(FileSystem& fs, const std::string& folder, int rank, int parts,
                                       const std::function<std::vector<ShardedTensor>(int)>& part) {
  std::unique_ptr<WritableFile> file;
  int64_t position = 0;
  TensorsByName tensors;
  for (int i = 0; i < parts; ++i) {
    for (const ShardedTensor& slice : part(i)) {
      if (slice.bytes() == 0) continue;
      CHECK(slice.data != nullptr) << slice.name;
      for (int dim = 0; dim < slice.global.rank(); ++dim) {
        CHECK(slice.box.offset[dim] >= 0 && slice.box.offset[dim] + slice.box.extent[dim] <= slice.global[dim])
            << "tensor \"" << slice.name << "\" " << slice.global << ": slice " << ToString(slice.box);
      }
      if (file == nullptr) {
        TREFOIL_ASSIGN_OR_RETURN(file, fs.Create(folder + "/" + DataFileName(rank)));
      }
      ManifestSlice entry = {.rank = rank, .byte_offset = position, .box = slice.box,
                             .chunk_bytes = ChunkBytes(slice.bytes()), .crcs = {}};
      TREFOIL_RETURN_IF_ERROR(AppendSlice(*file, slice, &entry.crcs));
      TensorNamed(tensors, slice.name, slice.dtype, slice.global).slices.push_back(std::move(entry));
      position += slice.bytes();
    }
  }
  const auto written = std::make_shared<WrittenPart>();
  written->part = {.rank = rank, .file_bytes = position, .tensors = ValuesOf(std::move(tensors))};
  if (file == nullptr) return written;
  TREFOIL_RETURN_IF_ERROR(file->Close());
  const std::string text = EncodePart(written->part);
  TREFOIL_RETURN_IF_ERROR(WriteFile(fs, folder + "/" + PartFileName(rank), text));
  written->entry = {.rank = rank, .file_bytes = position, .part_bytes = static_cast<int64_t>(text.size()),
                    .part_crc = Crc32c(text)};
  return written;
}

}  // namespace trefoil
