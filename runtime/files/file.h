// The file system, injectable so that tests can fill the disk or crash at any call.
//
//   FileSystem& fs = FileSystem::Posix();
//   TREFOIL_ASSIGN_OR_RETURN(auto file, fs.Create(path));
//   TREFOIL_RETURN_IF_ERROR(file->Append(bytes));
//   TREFOIL_RETURN_IF_ERROR(file->Close());                   // the content is flushed to disk
//   TREFOIL_RETURN_IF_ERROR(RenameDurably(fs, path, name));   // atomic; the name is flushed too
//
// What survives a power cut: the content of a file once Flush or Close has returned; a name that was made, moved or
// replaced once FlushFolder of its folder has. Until then the folder may come back as it was. The functions named
// ...Durably flush.
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
  // Readers see it on return.
  virtual absl::Status Append(std::span<const std::byte> bytes) = 0;
  // Flushes the content so far to disk.
  virtual absl::Status Flush() = 0;
  // Flushes the content to disk (fsync) and closes. The file's name is a matter of FlushFolder.
  virtual absl::Status Close() = 0;
};

class ReadableFile {
 public:
  virtual ~ReadableFile() = default;
  virtual int64_t size() const = 0;
  // Fills `out` from `offset`; fewer bytes left is an error.
  virtual absl::Status Read(int64_t offset, std::span<std::byte> out) const = 0;
  // The whole content, also of what has no size beforehand (a pipe, /dev/stdin, /proc) and can be read but once.
  virtual absl::StatusOr<std::string> ReadAll() const;
  // An error if the file was cut short, extended or rewritten in place since it was opened: its size or the time of its
  // last change is another. Replacing it by a rename is fine: what is open stays what it was.
  virtual absl::Status Unchanged() const { return absl::OkStatus(); }
  // Advice: reads will be all over the file, so that reading ahead of them is in vain.
  virtual void ExpectRandomReads() const {}
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  // This machine's files. Never destroyed.
  static FileSystem& Posix();

  // Makes or truncates a file.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) = 0;
  // Opens a file, or makes it, to add to its first `bytes` bytes: what it has beyond them is cut off. A file that has
  // fewer is added to where it ends.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> Extend(const std::string& path, int64_t bytes) = 0;
  // Each open file takes one of the process's file descriptors, whose number is raised to what the system allows.
  virtual absl::StatusOr<std::unique_ptr<ReadableFile>> Open(const std::string& path) = 0;
  // Atomic; replaces `to` if it is a file.
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  // Moves a file to a name that must be free: of several callers at once, on any hosts, one succeeds and the others get
  // AlreadyExists. Both names are in one folder.
  virtual absl::Status RenameIfFree(const std::string& from, const std::string& to) = 0;
  // Makes the folder and those above it; fine if it is there.
  virtual absl::Status MakeFolder(const std::string& path) = 0;
  // Flushes the names in a folder to disk.
  virtual absl::Status FlushFolder(const std::string& path) = 0;
  // Removes a file, or a folder with all it holds; fine if absent.
  virtual absl::Status Remove(const std::string& path) = 0;
  virtual bool Exists(const std::string& path) = 0;
  // Names (not paths) in a folder, sorted.
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& path) = 0;

  // When a file was last written to or touched, in seconds since the epoch, by the clock of the machine that holds the
  // file: comparable among files of one folder, whichever hosts wrote them.
  virtual absl::StatusOr<double> ModifiedSeconds(const std::string& path) = 0;
  // Makes that time now.
  virtual absl::Status Touch(const std::string& path) = 0;
  // What this user can still write to the file system that holds `path`, which must exist. Quotas are not looked at.
  virtual absl::StatusOr<int64_t> FreeBytes(const std::string& path) = 0;
};

// "runs/a" of "runs/a/x", "/" of "/x", "." of "x".
std::string FolderOf(const std::string& path);
// The same calls, followed by a flush of every folder whose names they change.
absl::Status RenameDurably(FileSystem& fs, const std::string& from, const std::string& to);
absl::Status MakeFolderDurably(FileSystem& fs, const std::string& path);

// The whole content of a file.
absl::StatusOr<std::string> ReadFile(FileSystem& fs, const std::string& path);
// A new file of this content, flushed; its name in the folder is not.
absl::Status WriteFile(FileSystem& fs, const std::string& path, std::string_view content);
// Writes to a temporary name beside `path`, flushes, renames: a reader sees the old content or the new, never a part.
absl::Status WriteFileAtomically(FileSystem& fs, const std::string& path, std::string_view content);
// Paths that match a shell pattern ("corpus/train-*.idx"), sorted. No match: empty.
std::vector<std::string> Glob(const std::string& pattern);

}  // namespace trefoil
