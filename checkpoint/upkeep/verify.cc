#include "checkpoint/upkeep/verify.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "checkpoint/upkeep/data_file.h"

namespace trefoil {
namespace {

// What a thread takes at a time: so much that the system's reading ahead is mostly of what the same thread wants next.
constexpr int64_t kPiece = 64 << 20;

class Verification {
 public:
  Verification(FileSystem& fs, const std::string& folder, const VerifyOptions& options)
      : fs_(fs), folder_(folder), options_(options) {}

  Verified Run() {
    const auto manifest = ReadManifest(fs_, folder_);
    if (!manifest.ok()) return {.bytes = 0, .damage = {std::string(manifest.status().message())}};
    manifest_ = &*manifest;
    if (const auto file = fs_.Open(folder_ + "/" + kManifestFile); file.ok()) Count((*file)->size(), true);
    std::vector<std::thread> others;
    for (int i = 1; i < options_.threads; ++i) others.emplace_back([this] { Work(); });
    Work();
    for (std::thread& thread : others) thread.join();
    if (all_parts_) {
      TensorsByName tensors;
      for (const auto& file : files_) {
        for (const ManifestTensor& tensor : file->tensors) {
          auto& slices = TensorNamed(tensors, tensor.name, tensor.dtype, tensor.shape).slices;
          slices.insert(slices.end(), tensor.slices.begin(), tensor.slices.end());
        }
      }
      const absl::Status tiling = CheckTiling(*manifest_, ValuesOf(std::move(tensors)));
      if (!tiling.ok()) damage_[{-1, 0}] = absl::StrCat(folder_, "/", kManifestFile, ": ", tiling.message());
    }
    Verified verified = {.bytes = bytes_, .damage = {}};
    for (auto& [place, text] : damage_) verified.damage.push_back(std::move(text));
    return verified;
  }

 private:
  using Place = std::pair<int64_t, int64_t>;  // rank, byte of its file; -1: the rank's part of the manifest

  // Chunks of one file that lie one behind the other.
  struct Piece {
    std::shared_ptr<const DataFile> file;
    std::span<const Chunk> chunks;
  };

  // Of a mutex that is held, as are the two below.
  void Count(int64_t bytes, bool good) {
    if (good) bytes_ += bytes;
    options_.progress(bytes);
  }
  void Damaged(const Place& place, const absl::Status& status) { damage_[place] = std::string(status.message()); }
  // Reads the next part of the manifest.
  void NextFile() {
    const PartEntry& entry = manifest_->parts[next_part_++];
    current_ = nullptr;
    next_chunk_ = 0;
    absl::StatusOr<DataFile> file = ChunksOf(fs_, folder_, *manifest_, entry);
    Count(entry.part_bytes, file.ok());
    absl::Status status = file.status();
    if (!status.ok()) {
      all_parts_ = false;
      Damaged({entry.rank, -1}, status);
    } else {
      files_.push_back(std::make_shared<const DataFile>(*std::move(file)));
      status = OpenDataFile(fs_, folder_, entry).status();
      if (status.ok()) current_ = files_.back();
      if (!status.ok()) Damaged({entry.rank, 0}, status);
    }
    if (!status.ok()) Count(entry.file_bytes, false);
  }

  std::optional<Piece> Next() {
    const std::lock_guard lock(mutex_);
    while (current_ == nullptr || next_chunk_ == current_->chunks.size()) {
      if (next_part_ == manifest_->parts.size()) return std::nullopt;
      NextFile();
    }
    const size_t first = next_chunk_;
    for (int64_t bytes = 0; next_chunk_ < current_->chunks.size() && bytes < kPiece; ++next_chunk_) {
      bytes += DataFile::BytesOf(current_->chunks[next_chunk_]);
    }
    return Piece{current_, std::span(current_->chunks).subspan(first, next_chunk_ - first)};
  }

  // A thread's.
  void Work() {
    std::vector<std::byte> buffer(static_cast<size_t>(kReadBlock));
    absl::StatusOr<std::unique_ptr<ReadableFile>> file;
    std::string path;
    for (int open_rank = -1; const std::optional<Piece> piece = Next();) {
      const PartEntry& entry = piece->file->entry;
      if (entry.rank != open_rank) {
        open_rank = entry.rank;
        path = folder_ + "/" + DataFileName(open_rank);
        file = OpenDataFile(fs_, folder_, entry);
      }
      for (const Chunk& chunk : piece->chunks) {
        absl::Status status = file.status();
        if (file.ok()) status = ReadChunk(**file, path, chunk, buffer, [](int64_t, std::span<const std::byte>) {});
        const std::lock_guard lock(mutex_);
        if (!status.ok()) Damaged({entry.rank, DataFile::BeginOf(chunk)}, status);
        Count(DataFile::BytesOf(chunk), status.ok());
      }
    }
  }

  FileSystem& fs_;
  const std::string folder_;
  const VerifyOptions& options_;
  const Manifest* manifest_ = nullptr;

  std::mutex mutex_;
  size_t next_part_ = 0, next_chunk_ = 0;
  std::shared_ptr<const DataFile> current_;
  std::vector<std::shared_ptr<const DataFile>> files_;
  bool all_parts_ = true;
  int64_t bytes_ = 0;
  std::map<Place, std::string> damage_;
};

absl::Status LookForPart(FileSystem& fs, const std::string& folder, const PartEntry& entry) {
  const std::string path = folder + "/" + PartFileName(entry.rank);
  TREFOIL_ASSIGN_OR_RETURN(const auto file, fs.Open(path));
  if (file->size() == entry.part_bytes) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(path, ": has ", file->size(), " bytes, but must have ", entry.part_bytes));
}

}  // namespace

Verified VerifyCheckpoint(FileSystem& fs, const std::string& folder, const VerifyOptions& options) {
  return Verification(fs, folder, options).Run();
}

absl::StatusOr<FilesThere> LookForFiles(FileSystem& fs, const std::string& folder) {
  TREFOIL_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(fs, folder));
  FilesThere files = {.ranks = static_cast<int>(manifest.parts.size()), .there = 0, .wrong = ""};
  for (const PartEntry& entry : manifest.parts) {
    absl::Status status = OpenDataFile(fs, folder, entry).status();
    if (status.ok() && manifest.has_parts) status = LookForPart(fs, folder, entry);
    if (status.ok()) ++files.there;
    if (!status.ok() && files.wrong.empty()) files.wrong = std::string(status.message());
  }
  return files;
}

}  // namespace trefoil
