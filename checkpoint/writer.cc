#include "checkpoint/writer.h"

#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <map>
#include <memory>
#include <span>

#include "checkpoint/directory.h"
#include "checkpoint/manifest.h"

namespace trefoil {
namespace {

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

absl::Status MayWrite(const CheckpointContent& content) {
  return content.may_write == nullptr ? absl::OkStatus() : content.may_write();
}

// Rank 0's part, once all data files are written and flushed.
absl::Status Finish(FileSystem& fs, const std::string& run_checkpoints_folder, const CheckpointContent& content,
                    const Manifest& manifest) {
  const std::string partial = PartialCheckpointPath(run_checkpoints_folder, content.step, content.owner);
  TREFOIL_RETURN_IF_ERROR(WriteManifest(fs, partial + "/" + kManifestFile, EncodeManifest(manifest)));
  TREFOIL_RETURN_IF_ERROR(CheckFiles(fs, partial, manifest));
  // The names of the manifest and of all ranks' files, once for all ranks: the rename flushes only the folder above.
  TREFOIL_RETURN_IF_ERROR(fs.FlushFolder(partial));
  TREFOIL_RETURN_IF_ERROR(MayWrite(content));
  return CommitCheckpoint(fs, run_checkpoints_folder, content.step, content.owner);
}

}  // namespace

absl::Status BeginSave(FileSystem& fs, Group& all_ranks, const std::string& run_checkpoints_folder,
                       const CheckpointContent& content) {
  CHECK_GE(content.step, 0);
  absl::Status status;
  if (all_ranks.rank() == 0) {
    status = MayWrite(content);
    if (status.ok()) status = BeginCheckpoint(fs, run_checkpoints_folder, content.step, content.owner);
  }
  return all_ranks.Agree(status);
}

absl::Status FinishSave(FileSystem& fs, Group& all_ranks, const std::string& run_checkpoints_folder,
                        const CheckpointContent& content, const absl::StatusOr<RankPart>& written) {
  const bool first = all_ranks.rank() == 0;
  absl::Status status = all_ranks.Agree(written.status());
  if (status.ok()) {
    Manifest mine = **written;
    mine.step = content.step;
    if (first) {
      mine.model = content.model;
      mine.trainer_state = content.trainer_state;
    }
    const std::vector<std::string> parts = all_ranks.GatherStrings(PackManifest(mine));
    if (first) status = Finish(fs, run_checkpoints_folder, content, Merge(parts));
    status = all_ranks.Agree(status);
  }
  // What went wrong matters more than whether the rest could be removed; the next save tries again.
  if (first && !status.ok()) {
    fs.Remove(PartialCheckpointPath(run_checkpoints_folder, content.step, content.owner)).IgnoreError();
  }
  return status;
}

absl::Status WriteCheckpoint(FileSystem& fs, Group& all_ranks, const std::string& run_checkpoints_folder,
                             const CheckpointContent& content) {
  TREFOIL_RETURN_IF_ERROR(BeginSave(fs, all_ranks, run_checkpoints_folder, content));
  const std::string partial = PartialCheckpointPath(run_checkpoints_folder, content.step, content.owner);
  return FinishSave(fs, all_ranks, run_checkpoints_folder, content,
                    WriteRankPart(fs, partial, all_ranks.rank(), content.parts, content.part));
}

}  // namespace trefoil
