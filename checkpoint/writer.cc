#include "checkpoint/writer.h"

#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <algorithm>
#include <bit>
#include <map>

#include "checkpoint/directory.h"
#include "checkpoint/manifest.h"
#include "runtime/files/crc32c.h"

namespace trefoil {
namespace {

static_assert(std::endian::native == std::endian::little, "data files are little-endian");

// Small enough that the checksum leaves the bytes in the cache for the write; divides every chunk of a slice.
constexpr int64_t kBlock = 1 << 20;

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

// Writes this rank's data file and says in `written` what is in it.
absl::Status WriteSlices(FileSystem& fs, const std::string& folder, int rank, const CheckpointContent& content,
                         Manifest* written) {
  std::unique_ptr<WritableFile> file;
  int64_t position = 0;
  TensorsByName tensors;
  for (int part = 0; part < content.parts; ++part) {
    for (const ShardedTensor& slice : content.part(part)) {
      if (slice.bytes() == 0) continue;
      CHECK(slice.data != nullptr) << slice.name;
      for (int i = 0; i < slice.global.rank(); ++i) {
        CHECK(slice.box.offset[i] >= 0 && slice.box.offset[i] + slice.box.extent[i] <= slice.global[i])
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
  if (file != nullptr) {
    TREFOIL_RETURN_IF_ERROR(file->Close());
    written->file_bytes[rank] = position;
  }
  written->tensors = ValuesOf(std::move(tensors));
  return absl::OkStatus();
}

// Joins what the ranks have written into one manifest.
Manifest Merge(const std::vector<std::string>& parts) {
  Manifest whole;
  TensorsByName tensors;
  for (size_t rank = 0; rank < parts.size(); ++rank) {
    Manifest part = UnpackManifest(parts[rank]);
    if (rank == 0) {
      whole.step = part.step;
      whole.model = std::move(part.model);
      whole.trainer_state = std::move(part.trainer_state);
    }
    CHECK_EQ(part.step, whole.step) << "rank " << rank << " saves another step than rank 0";
    whole.file_bytes.merge(part.file_bytes);
    for (const ManifestTensor& tensor : part.tensors) {
      auto& slices = TensorNamed(tensors, tensor.name, tensor.dtype, tensor.shape).slices;
      slices.insert(slices.end(), tensor.slices.begin(), tensor.slices.end());
    }
  }
  whole.tensors = ValuesOf(std::move(tensors));
  for (const ManifestTensor& tensor : whole.tensors) {
    const std::string wrong = TilingError(tensor);
    CHECK(wrong.empty()) << "tensor \"" << tensor.name << "\" " << tensor.shape << ": " << wrong;
  }
  return whole;
}

// That every data file is where rank 0 will look for it, whole. It is not if a rank wrote into a folder of that name on
// a file system of its own host.
absl::Status CheckFiles(FileSystem& fs, const std::string& folder, const Manifest& manifest) {
  for (const auto& [rank, bytes] : manifest.file_bytes) {
    const std::string path = folder + "/" + DataFileName(rank);
    const auto file = fs.Open(path);
    if (absl::IsNotFound(file.status())) {
      return absl::DataLossError(absl::StrCat(path, ": rank ", rank, " has written it, but rank 0 does not see it: the ",
                                              "hosts must share the run folder"));
    }
    TREFOIL_RETURN_IF_ERROR(file.status());
    if ((*file)->size() != bytes) {
      return absl::DataLossError(absl::StrCat(path, ": rank ", rank, " has written ", bytes, " bytes, but rank 0 sees ",
                                              (*file)->size()));
    }
  }
  return absl::OkStatus();
}

absl::Status WriteManifest(FileSystem& fs, const std::string& path, const std::string& text) {
  TREFOIL_ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file, fs.Create(path));
  TREFOIL_RETURN_IF_ERROR(file->Append(std::as_bytes(std::span(text))));
  return file->Close();
}

// Rank 0's part, once all data files are written and flushed.
absl::Status Finish(FileSystem& fs, const std::string& run_checkpoints_folder, const CheckpointContent& content,
                    const Manifest& manifest, const std::function<absl::Status()>& may_write) {
  const std::string partial = PartialCheckpointPath(run_checkpoints_folder, content.step, content.owner);
  TREFOIL_RETURN_IF_ERROR(WriteManifest(fs, partial + "/" + kManifestFile, EncodeManifest(manifest)));
  TREFOIL_RETURN_IF_ERROR(CheckFiles(fs, partial, manifest));
  // The names of the manifest and of all ranks' files, once for all ranks: the rename flushes only the folder above.
  TREFOIL_RETURN_IF_ERROR(fs.FlushFolder(partial));
  TREFOIL_RETURN_IF_ERROR(may_write());
  return CommitCheckpoint(fs, run_checkpoints_folder, content.step, content.owner);
}

}  // namespace

absl::Status WriteCheckpoint(FileSystem& fs, Group& all_ranks, const std::string& run_checkpoints_folder,
                             const CheckpointContent& content) {
  CHECK_GE(content.step, 0);
  const bool first = all_ranks.rank() == 0;
  const auto may_write = [&] { return content.may_write == nullptr ? absl::OkStatus() : content.may_write(); };
  absl::Status status;
  if (first) status = may_write();
  if (first && status.ok()) status = BeginCheckpoint(fs, run_checkpoints_folder, content.step, content.owner);
  TREFOIL_RETURN_IF_ERROR(all_ranks.Agree(status));

  const std::string partial = PartialCheckpointPath(run_checkpoints_folder, content.step, content.owner);
  Manifest mine;
  mine.step = content.step;
  if (first) {
    mine.model = content.model;
    mine.trainer_state = content.trainer_state;
  }
  status = all_ranks.Agree(WriteSlices(fs, partial, all_ranks.rank(), content, &mine));
  if (status.ok()) {
    const std::vector<std::string> parts = all_ranks.GatherStrings(PackManifest(mine));
    if (first) status = Finish(fs, run_checkpoints_folder, content, Merge(parts), may_write);
    status = all_ranks.Agree(status);
  }
  // What went wrong matters more than whether the rest could be removed; the next save tries again.
  if (first && !status.ok()) fs.Remove(partial).IgnoreError();
  return status;
}

}  // namespace trefoil
