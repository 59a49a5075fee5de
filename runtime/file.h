// The file system, injectable so that tests can fill the disk or crash at any call.
//
//   FileSystem& fs = FileSystem::Posix();
//   TREFOIL_ASSIGN_OR_RETURN(auto file, fs.Create(path));
//   TREFOIL_RETURN_IF_ERROR(file->Append(bytes));
//   TREFOIL_RETURN_IF_ERROR(file->Close());           // flushed to disk: survives a power cut
//   TREFOIL_RETURN_IF_ERROR(fs.Rename(path, name));   // atomic; the folder entry is flushed too
//
// Failure: every Status names the path and says what the system said ("/runs/a/x: no space left on device").
// Threads: a FileSystem may be used by many threads; a file by one at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/status.h"

namespace trefoil {

class WritableFile {
 public:
  // Closes without flushing if Close was not called: the content is then undefined.
  virtual ~WritableFile() = default;
  virtual absl::Status Append(std::span<const std::byte> bytes) = 0;
  // Flushes to disk (fsync) and closes.
  virtual absl::Status Close() = 0;
};

class ReadableFile {
 public:
  virtual ~ReadableFile() = default;
  virtual int64_t size() const = 0;
  // Fills `out` from `offset`; fewer bytes left is an error.
  virtual absl::Status Read(int64_t offset, std::span<std::byte> out) const = 0;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  // This machine's files. Never destroyed.
  static FileSystem& Posix();

  // Makes or truncates a file.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) = 0;
  virtual absl::StatusOr<std::unique_ptr<ReadableFile>> Open(const std::string& path) = 0;
  // Atomic; replaces `to` if it is a file; flushes the folder.
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  // Makes the folder and those above it; fine if it is there.
  virtual absl::Status MakeFolder(const std::string& path) = 0;
  // Removes a file, or a folder with all it holds; fine if absent.
  virtual absl::Status Remove(const std::string& path) = 0;
  virtual bool Exists(const std::string& path) = 0;
  // Names (not paths) in a folder, sorted.
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& path) = 0;
};

// The whole content of a file.
absl::StatusOr<std::string> ReadFile(FileSystem& fs, const std::string& path);
// Writes to a temporary name beside `path`, flushes, renames: a reader sees the old content or the new, never a part.
absl::Status WriteFileAtomically(FileSystem& fs, const std::string& path, std::string_view content);
// Paths that match a shell pattern ("corpus/train-*.idx"), sorted. No match: empty.
std::vector<std::string> Glob(const std::string& pattern);

}  // namespace trefoil
