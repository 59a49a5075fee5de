#include "checkpoint/writer.h"

#include <glog/logging.h>

#include <algorithm>
#include <bit>
#include <map>

#include "checkpoint/directory.h"
#include "checkpoint/manifest.h"
#include "runtime/crc32c.h"

namespace trefoil {
namespace {

static_assert(std::endian::native == std::endian::little, "data files are little-endian");

// Small enough that the checksum leaves the bytes in the cache for the write.
constexpr size_t kChunk = 1 << 20;

using TensorsByName = std::map<std::string, ManifestTensor>;

// The tensor of that name, made if it is new.
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

// Writes this rank's data file and says in `part` what is in it.
absl::Status WriteSlices(FileSystem& fs, const std::string& folder, int rank, const std::vector<ShardedTensor>& slices,
                         Manifest* part) {
  std::unique_ptr<WritableFile> file;
  int64_t position = 0;
  TensorsByName tensors;
  for (const ShardedTensor& slice : slices) {
    if (slice.bytes() == 0) continue;
    CHECK(slice.data != nullptr) << slice.name;
    for (int i = 0; i < slice.global.rank(); ++i) {
      CHECK(slice.box.offset[i] >= 0 && slice.box.offset[i] + slice.box.extent[i] <= slice.global[i])
          << "tensor \"" << slice.name << "\" " << slice.global << ": slice " << ToString(slice.box);
    }
    if (file == nullptr) {
      TREFOIL_ASSIGN_OR_RETURN(file, fs.Create(folder + "/" + DataFileName(rank)));
    }
    std::span<const std::byte> bytes(slice.data, static_cast<size_t>(slice.bytes()));
    uint32_t crc = 0;
    while (!bytes.empty()) {
      const std::span<const std::byte> chunk = bytes.first(std::min(bytes.size(), kChunk));
      crc = Crc32c(chunk, crc);
      TREFOIL_RETURN_IF_ERROR(file->Append(chunk));
      bytes = bytes.subspan(chunk.size());
    }
    TensorNamed(tensors, slice.name, slice.dtype, slice.global).slices.push_back({rank, position, crc, slice.box});
    position += slice.bytes();
  }
  if (file != nullptr) {
    TREFOIL_RETURN_IF_ERROR(file->Close());
    part->file_bytes[rank] = position;
  }
  part->tensors = ValuesOf(std::move(tensors));
  return absl::OkStatus();
}

// Joins what the ranks have written into one manifest.
Manifest Merge(const std::vector<std::string>& parts) {
  Manifest whole;
  TensorsByName tensors;
  for (size_t rank = 0; rank < parts.size(); ++rank) {
    absl::StatusOr<Manifest> part = DecodeManifest(parts[rank], "the part of rank " + std::to_string(rank));
    CHECK(part.ok()) << part.status();
    if (rank == 0) {
      whole.step = part->step;
      whole.model = std::move(part->model);
      whole.trainer_state = std::move(part->trainer_state);
    }
    CHECK_EQ(part->step, whole.step) << "rank " << rank << " saves another step than rank 0";
    whole.file_bytes.merge(part->file_bytes);
    for (const ManifestTensor& tensor : part->tensors) {
      auto& slices = TensorNamed(tensors, tensor.name, tensor.dtype, tensor.shape).slices;
      slices.insert(slices.end(), tensor.slices.begin(), tensor.slices.end());
    }
  }
  whole.tensors = ValuesOf(std::move(tensors));
  for (const ManifestTensor& tensor : whole.tensors) CheckTiling(tensor);
  return whole;
}

absl::Status WriteManifest(FileSystem& fs, const std::string& path, const std::string& text) {
  TREFOIL_ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file, fs.Create(path));
  TREFOIL_RETURN_IF_ERROR(file->Append(std::as_bytes(std::span(text))));
  return file->Close();
}

}  // namespace

absl::Status WriteCheckpoint(FileSystem& fs, Group& all_ranks, const std::string& run_checkpoints_folder,
                             const CheckpointContent& content, int keep_last) {
  CHECK_GE(content.step, 0);
  const bool first = all_ranks.rank() == 0;
  absl::Status status;
  if (first) status = BeginCheckpoint(fs, run_checkpoints_folder, content.step);
  TREFOIL_RETURN_IF_ERROR(all_ranks.Agree(status));

  const std::string partial = PartialCheckpointPath(run_checkpoints_folder, content.step);
  Manifest part;
  part.step = content.step;
  if (first) {
    part.model = content.model;
    part.trainer_state = content.trainer_state;
  }
  status = all_ranks.Agree(WriteSlices(fs, partial, all_ranks.rank(), content.slices, &part));
  if (status.ok()) {
    const std::vector<std::string> parts = all_ranks.AllGatherStrings(EncodeManifest(part));
    if (first) {
      status = WriteManifest(fs, partial + "/" + kManifestFile, EncodeManifest(Merge(parts)));
      // The names of all ranks' files, which the rename below does not flush.
      if (status.ok()) status = fs.FlushFolder(partial);
      if (status.ok()) status = CommitCheckpoint(fs, run_checkpoints_folder, content.step);
    }
    status = all_ranks.Agree(status);
  }
  if (first && status.ok()) RemoveOldCheckpoints(fs, run_checkpoints_folder, content.step, keep_last);
  // What went wrong matters more than whether the rest could be removed; the next save tries again.
  if (first && !status.ok()) fs.Remove(partial).IgnoreError();
  return status;
}

}  // namespace trefoil
