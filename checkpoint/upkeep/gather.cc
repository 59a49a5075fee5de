#include "checkpoint/upkeep/gather.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "checkpoint/directory.h"
#include "checkpoint/part.h"
#include "checkpoint/upkeep/data_file.h"
#include "runtime/number_text.h"

namespace trefoil {
namespace {

constexpr size_t kMissingShown = 20;

// A rank's files, and the folders that have them, by names and sizes.
struct Found {
  DataFile file;
  std::string part_from;
  std::vector<std::string> data_from;
};

class Gathering {
 public:
  Gathering(FileSystem& fs, const std::vector<std::string>& from, const GatherOptions& options)
      : fs_(fs), from_(from), options_(options) {}

  // The manifest that the folders have.
  absl::Status ReadManifests() {
    std::string first;
    std::vector<std::string> wrong;
    for (const std::string& folder : from_) {
      const std::string path = folder + "/" + kManifestFile;
      const auto text = ReadFile(fs_, path);
      auto manifest = text.ok() ? DecodeManifest(*text, path) : absl::StatusOr<Manifest>(text.status());
      if (!manifest.ok()) {
        wrong.push_back(std::string(manifest.status().message()));
      } else if (first.empty()) {
        first = path;
        text_ = *text;
        manifest_ = *std::move(manifest);
      } else if (*text != text_) {
        return absl::FailedPreconditionError(
            absl::StrCat(path, " and ", first, " differ: they are not of the same save of step ", manifest_.step));
      }
    }
    if (first.empty()) return absl::DataLossError(absl::StrJoin(wrong, "; "));
    for (const std::string& text : wrong) options_.warn(absl::StrCat(text, "; taken from ", first));
    return absl::OkStatus();
  }

  // Where each rank's files are; an error that names all that are nowhere.
  absl::Status Find() {
    TensorsByName tensors;
    std::vector<std::string> missing;
    for (const PartEntry& entry : manifest_.parts) {
      Found found;
      std::vector<std::string> wrong;
      for (const std::string& folder : from_) {
        if (found.part_from.empty()) {
          absl::StatusOr<DataFile> file = ChunksOf(fs_, folder, manifest_, entry);
          if (file.ok()) found.part_from = folder;
          if (file.ok()) found.file = *std::move(file);
          if (!file.ok()) wrong.push_back(std::string(file.status().message()));
        }
        const absl::Status data = OpenDataFile(fs_, folder, entry).status();
        if (data.ok()) found.data_from.push_back(folder);
        if (!data.ok()) wrong.push_back(std::string(data.message()));
      }
      const bool whole = !found.part_from.empty() && !found.data_from.empty();
      if (!whole) missing.push_back(absl::StrJoin(wrong, "; "));
      for (const std::string& text : wrong) {
        // That a folder does not have a file is what gathering is for.
        if (whole && text.find(": no such file") == std::string::npos) options_.warn(text + "; taken from elsewhere");
      }
      for (const ManifestTensor& tensor : found.file.tensors) {
        auto& slices = TensorNamed(tensors, tensor.name, tensor.dtype, tensor.shape).slices;
        slices.insert(slices.end(), tensor.slices.begin(), tensor.slices.end());
      }
      found_.push_back(std::move(found));
    }
    if (missing.empty()) {
      const absl::Status tiling = CheckTiling(manifest_, ValuesOf(std::move(tensors)));
      return absl::Status(tiling.code(), absl::StrCat(from_[0], "/", kManifestFile, ": ", tiling.message()));
    }
    const size_t number = missing.size();
    if (number > kMissingShown) {
      missing.resize(kMissingShown);
      missing.push_back("...");
    }
    return absl::DataLossError(absl::StrCat(number, " of ", found_.size(),
                                            " ranks' files are whole in none of the folders:\n  ",
                                            absl::StrJoin(missing, "\n  ")));
  }

  absl::Status CopyTo(const std::string& folder) {
    int64_t bytes = static_cast<int64_t>(text_.size());
    for (const PartEntry& entry : manifest_.parts) bytes += entry.file_bytes + entry.part_bytes;
    TREFOIL_ASSIGN_OR_RETURN(const int64_t free, fs_.FreeBytes(folder));
    if (free < bytes) {
      return absl::ResourceExhaustedError(absl::StrCat(folder, ": has ", BytesText(free),
                                                       " free, but the checkpoint takes ", BytesText(bytes)));
    }
    for (Found& found : found_) {
      TREFOIL_RETURN_IF_ERROR(CopyData(folder, &found));
      if (manifest_.has_parts) TREFOIL_RETURN_IF_ERROR(CopyPart(folder, found));
    }
    options_.progress(static_cast<int64_t>(text_.size()));
    TREFOIL_RETURN_IF_ERROR(WriteFile(fs_, folder + "/" + kManifestFile, text_));
    TREFOIL_RETURN_IF_ERROR(fs_.FlushFolder(folder));
    return options_.may_commit();
  }

  int64_t step() const { return manifest_.step; }

 private:
  absl::Status CopyPart(const std::string& folder, const Found& found) {
    const std::string name = "/" + PartFileName(found.file.entry.rank);
    TREFOIL_ASSIGN_OR_RETURN(const std::string text, ReadFile(fs_, found.part_from + name));
    TREFOIL_RETURN_IF_ERROR(DecodePart(text, found.part_from + name, manifest_, found.file.entry).status());
    TREFOIL_RETURN_IF_ERROR(WriteFile(fs_, folder + name, text));
    options_.progress(static_cast<int64_t>(text.size()));
    return absl::OkStatus();
  }

  absl::Status CopyData(const std::string& folder, Found* found) {
    const std::string name = DataFileName(found->file.entry.rank), to = folder + "/" + name;
    TREFOIL_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs_.Create(to));
    std::unique_ptr<ReadableFile> open;
    for (const Chunk& chunk : found->file.chunks) {
      std::vector<std::string> wrong;
      // Once what one folder has is damaged, the others come first.
      for (size_t tries = found->data_from.size();; --tries) {
        if (tries == 0) return absl::DataLossError(absl::StrJoin(wrong, "; "));
        const std::string& from = found->data_from[0];
        absl::Status written, read;
        if (open == nullptr) {
          auto opened = OpenDataFile(fs_, from, found->file.entry);
          read = opened.status();
          if (opened.ok()) open = *std::move(opened);
        }
        if (read.ok()) {
          read = ReadChunk(*open, from + "/" + name, chunk, buffer_,
                           [&](int64_t, std::span<const std::byte> block) { written.Update(file->Append(block)); });
        }
        TREFOIL_RETURN_IF_ERROR(written);
        if (read.ok()) break;
        wrong.push_back(std::string(read.message()));
        open = nullptr;
        std::rotate(found->data_from.begin(), found->data_from.begin() + 1, found->data_from.end());
        TREFOIL_RETURN_IF_ERROR(file->Close());
        TREFOIL_ASSIGN_OR_RETURN(file, fs_.Extend(to, DataFile::BeginOf(chunk)));
      }
      for (const std::string& text : wrong) options_.warn(absl::StrCat(text, "; taken from ", found->data_from[0]));
      options_.progress(DataFile::BytesOf(chunk));
    }
    return file->Close();
  }

  FileSystem& fs_;
  const std::vector<std::string>& from_;
  const GatherOptions& options_;
  std::string text_;  // of the manifest
  Manifest manifest_;
  std::vector<Found> found_;  // of each part
  std::vector<std::byte> buffer_ = std::vector<std::byte>(static_cast<size_t>(kReadBlock));
};

}  // namespace

absl::Status GatherCheckpoint(FileSystem& fs, const std::vector<std::string>& from,
                              const std::string& run_checkpoints_folder, const std::string& owner,
                              const GatherOptions& options) {
  Gathering gathering(fs, from, options);
  TREFOIL_RETURN_IF_ERROR(gathering.ReadManifests());
  const std::string path = CheckpointPath(run_checkpoints_folder, gathering.step());
  if (fs.Exists(path)) return absl::AlreadyExistsError(path + ": exists already");
  TREFOIL_RETURN_IF_ERROR(gathering.Find());
  TREFOIL_RETURN_IF_ERROR(BeginCheckpoint(fs, run_checkpoints_folder, gathering.step(), owner));
  const std::string partial = PartialCheckpointPath(run_checkpoints_folder, gathering.step(), owner);
  absl::Status status = gathering.CopyTo(partial);
  if (status.ok()) status = CommitCheckpoint(fs, run_checkpoints_folder, gathering.step(), owner);
  if (!status.ok()) fs.Remove(partial).IgnoreError();
  return status;
}

}  // namespace trefoil
