#include "checkpoint/writer.h"

#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "checkpoint/bands.h"
#include "checkpoint/directory.h"
#include "checkpoint/host_copies.h"
#include "checkpoint/manifest.h"
#include "checkpoint/packed.h"
#include "checkpoint/part.h"
#include "checkpoint/slice_directory.h"

namespace trefoil {
namespace {

// What ranks in a row have written.
struct Written {
  std::vector<PartEntry> parts;              // by rank
  TensorsByName tensors;                     // without slices
  std::map<std::string, SliceCount> counts;  // of each
};

std::string Pack(const Written& written) {
  Packer packer;
  packer.Number(static_cast<int64_t>(written.parts.size()));
  for (const PartEntry& part : written.parts) Pack(part, &packer);
  for (const auto& [name, tensor] : written.tensors) {
    packer.Tensor(name, tensor.dtype, tensor.shape);
    packer.Number(written.counts.at(name).slices);
    packer.Number(written.counts.at(name).rows);
  }
  return packer.bytes();
}

// Adds what `packed` has to `written`.
void Add(const std::string& packed, Written* written) {
  Unpacker unpacker(packed);
  for (int64_t parts = unpacker.Number(); parts > 0; --parts) written->parts.push_back(UnpackPart(&unpacker));
  while (!unpacker.done()) {
    std::string name;
    DType dtype;
    Shape shape;
    unpacker.Tensor(&name, &dtype, &shape);
    TensorNamed(written->tensors, name, dtype, shape);
    written->counts[name].slices += unpacker.Number();
    written->counts[name].rows += unpacker.Number();
  }
}

std::string Join(const std::string& lower, const std::string& upper) {
  Written both;
  Add(lower, &both);
  Add(upper, &both);
  return Pack(both);
}

// Parts and tensors of all ranks, on every rank.
Manifest ManifestOfAll(Group& all_ranks, const WrittenPart& mine) {
  Written written;
  if (mine.has_files()) written.parts.push_back(mine.entry);
  for (const ManifestTensor& tensor : mine.part.tensors) {
    TensorNamed(written.tensors, tensor.name, tensor.dtype, tensor.shape);
    written.counts[tensor.name] = CountOf(tensor.slices);
  }
  const std::string joined = all_ranks.ReduceStrings(Pack(written), Join);
  Manifest manifest;
  if (all_ranks.rank() == 0) {
    Written all;
    Add(joined, &all);
    manifest.parts = std::move(all.parts);
    for (const auto& [name, tensor] : all.tensors) {
      manifest.tensors.push_back({.name = name, .dtype = tensor.dtype, .shape = tensor.shape,
                                  .bands = BandsFor(tensor.shape, all.counts.at(name))});
    }
  }
  return UnpackManifest(all_ranks.BroadcastString(PackManifest(manifest)));
}

// That the ranks' slices are disjoint and together all of every tensor. Checksums need not travel for that.
void CheckTiling(Group& all_ranks, const Manifest& manifest, std::vector<ManifestTensor> mine) {
  for (ManifestTensor& tensor : mine) {
    for (ManifestSlice& slice : tensor.slices) slice.crcs.clear();
  }
  const absl::Status tiling = SliceDirectory(all_ranks, manifest.tensors, mine).Tiling();
  CHECK(tiling.ok()) << tiling.message();
}

// That the files of the rank before this one, among those that have written and rank 0, are where this rank sees them,
// whole. As all ranks look, round the ring, all see all: a file is missed if a rank wrote into a folder of that name on
// a file system of its own host.
absl::Status CheckFilesBefore(FileSystem& fs, const std::string& folder, const Manifest& manifest, int rank) {
  const auto& parts = manifest.parts;
  const auto here = std::find_if(parts.begin(), parts.end(), [&](const PartEntry& part) { return part.rank >= rank; });
  const bool looks = rank == 0 || (here != parts.end() && here->rank == rank);
  if (!looks || parts.empty()) return absl::OkStatus();
  const PartEntry& part = here == parts.begin() ? parts.back() : *(here - 1);
  const auto seen = [&](const std::string& name, int64_t bytes) -> absl::Status {
    const std::string path = folder + "/" + name;
    const auto file = fs.Open(path);
    if (absl::IsNotFound(file.status())) {
      return absl::DataLossError(absl::StrCat(path, ": rank ", part.rank, " has written it, but rank ", rank,
                                              " does not see it: the hosts must share the run folder, and nothing ",
                                              "else may remove files there"));
    }
    TREFOIL_RETURN_IF_ERROR(file.status());
    if ((*file)->size() == bytes) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat(path, ": rank ", part.rank, " has written ", bytes, " bytes, but rank ", rank,
                                            " sees ", (*file)->size()));
  };
  TREFOIL_RETURN_IF_ERROR(seen(DataFileName(part.rank), part.file_bytes));
  return seen(PartFileName(part.rank), part.part_bytes);
}

absl::Status MayWrite(const CheckpointContent& content) {
  return content.may_write == nullptr ? absl::OkStatus() : content.may_write();
}

// Of who leads, once all other files are written and flushed.
absl::Status Commit(FileSystem& fs, const CheckpointStorage& storage, const CheckpointContent& content,
                    const std::string& manifest) {
  const std::string partial = PartialCheckpointPath(storage.folder, content.step, content.owner);
  TREFOIL_RETURN_IF_ERROR(WriteFile(fs, partial + "/" + kManifestFile, manifest));
  // The names of the manifest and of all ranks' files, once for all ranks: the rename flushes only the folder above.
  TREFOIL_RETURN_IF_ERROR(fs.FlushFolder(partial));
  TREFOIL_RETURN_IF_ERROR(MayWrite(content));
  return CommitCheckpoint(fs, storage.folder, content.step, content.owner);
}

}  // namespace

absl::Status BeginSave(FileSystem& fs, Group& all_ranks, const CheckpointStorage& storage,
                       const CheckpointContent& content) {
  CHECK_GE(content.step, 0);
  absl::Status status;
  if (storage.Leads(all_ranks)) {
    status = MayWrite(content);
    if (status.ok()) status = BeginCheckpoint(fs, storage.folder, content.step, content.owner);
  }
  return all_ranks.Agree(status);
}

absl::StatusOr<RankPart> WriteWithCopies(FileSystem& fs, Group& all_ranks, const CheckpointStorage& storage,
                                         const std::string& folder, int parts,
                                         const std::function<std::vector<ShardedTensor>(int)>& part) {
  absl::StatusOr<RankPart> written = WriteRankPart(fs, folder, all_ranks.rank(), parts, part);
  if (storage.copies == 1) return written;
  const absl::Status sent = SendCopies(fs, all_ranks, storage.copies, folder, written);
  TREFOIL_RETURN_IF_ERROR(written.status());
  TREFOIL_RETURN_IF_ERROR(sent);
  return written;
}

absl::Status FinishSave(FileSystem& fs, Group& all_ranks, const CheckpointStorage& storage,
                        const CheckpointContent& content, const absl::StatusOr<RankPart>& written) {
  const std::string partial = PartialCheckpointPath(storage.folder, content.step, content.owner);
  absl::Status status = all_ranks.Agree(written.status());
  if (status.ok()) {
    Manifest manifest = ManifestOfAll(all_ranks, **written);
    CheckTiling(all_ranks, manifest, (*written)->part.tensors);
    if (!storage.of_hosts) status = all_ranks.Agree(CheckFilesBefore(fs, partial, manifest, all_ranks.rank()));
    if (status.ok()) {
      std::string text;
      if (all_ranks.rank() == 0) {
        manifest.step = content.step;
        manifest.model = content.model;
        manifest.trainer_state = content.trainer_state;
        text = EncodeManifest(manifest);
      }
      if (storage.of_hosts) text = all_ranks.BroadcastString(text);
      if (storage.Leads(all_ranks)) status = Commit(fs, storage, content, text);
      status = all_ranks.Agree(status);
    }
  }
  // What went wrong matters more than whether the rest could be removed; the next save tries again.
  if (!status.ok() && storage.Leads(all_ranks)) fs.Remove(partial).IgnoreError();
  return status;
}

absl::Status WriteCheckpoint(FileSystem& fs, Group& all_ranks, const CheckpointStorage& storage,
                             const CheckpointContent& content) {
  TREFOIL_RETURN_IF_ERROR(BeginSave(fs, all_ranks, storage, content));
  const std::string partial = PartialCheckpointPath(storage.folder, content.step, content.owner);
  return FinishSave(fs, all_ranks, storage, content,
                    WriteWithCopies(fs, all_ranks, storage, partial, content.parts, content.part));
}

}  // namespace trefoil
