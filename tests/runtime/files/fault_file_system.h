// A file system of real files that fills up, or dies in the middle of its work, on request.
//
//   for (int64_t k = 0;; ++k) {                      // every moment at which a save can die
//     FaultFileSystem fs(FileSystem::Posix());
//     fs.CrashAt(k);
//     Save(fs);
//     ... what is on disk is what a killed process would leave ...
//     if (!fs.crashed()) break;                      // the save made k calls or fewer
//   }
//
// Calls that change the disk are counted from 0: Create, Extend, each Append, Flush, Close, Rename, RenameIfFree,
// MakeFolder, FlushFolder, and within Remove each file and folder removed. At call k of CrashAt the half of an Append
// reaches the disk, of any other call nothing; from then on every call fails ("crashed (injected)") and changes nothing.
//
// Threads: as FileSystem. One instance may stand for a machine shared by several ranks, or each rank may have its own.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "runtime/files/file.h"

namespace trefoil {

class FaultFileSystem final : public FileSystem {
 public:
  explicit FaultFileSystem(FileSystem& base) : base_(base) {}

  // kKill: what was done stays. kPowerCut: besides, of files not yet closed only what was there when they were opened or
  // flushed is left, and names in a folder that was not flushed since are as they were: new files and folders are gone,
  // what was renamed has its old name, a file that was replaced its old content. What was removed stays removed.
  enum class Crash { kKill, kPowerCut };
  void CrashAt(int64_t call, Crash crash = Crash::kKill);
  // At the first call that is said to be it, by what it does: "append /runs/a/x". Such a moment is the same whatever
  // other threads are doing. One thread at a time asks.
  void CrashWhen(std::function<bool(const std::string& call)> is_it, Crash crash = Crash::kKill);
  // After `bytes` more bytes an Append writes what fits and fails: "no space left on device". Nothing is given back by
  // removing files, but another call makes room.
  void FillAfter(int64_t bytes);
  bool crashed() const;
  // Calls so far that changed the disk, the one that crashed included.
  int64_t calls() const;

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<WritableFile>> Extend(const std::string& path, int64_t bytes) override;
  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(const std::string& path) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status RenameIfFree(const std::string& from, const std::string& to) override;
  absl::Status MakeFolder(const std::string& path) override;
  absl::Status FlushFolder(const std::string& path) override;
  absl::Status Remove(const std::string& path) override;
  bool Exists(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override;
  absl::StatusOr<double> ModifiedSeconds(const std::string& path) override;
  absl::Status Touch(const std::string& path) override;
  absl::StatusOr<int64_t> FreeBytes(const std::string& path) override;

 private:
  class File;
  // A change of names that a power cut undoes. Paths are as they are after all changes so far.
  struct Change {
    std::string from;                  // of a rename; empty: `to` was made
    std::string to;
    std::optional<std::string> before;  // content of the file that `to` replaced
    std::set<std::string> unflushed;    // folders
  };

  // These hold the mutex while the base's call is made, so that nothing changes after the crash.
  absl::Status CountCall(const char* what, const std::string& path);
  absl::Status CheckAlive(const std::string& path) const;
  int64_t SizeOf(const std::string& path);
  // Of which a power cut leaves the first `flushed` bytes, or what it left before.
  std::unique_ptr<WritableFile> Opened(const std::string& path, bool is_new, int64_t flushed,
                                       std::unique_ptr<WritableFile> base);
  void CutPower();
  // What is said of paths from `from` on down is said of `to` from here on.
  void Moved(const std::string& from, const std::string& to);
  absl::Status Renamed(const std::string& from, const std::string& to, const absl::Status& done,
                       std::optional<std::string> before);

  FileSystem& base_;
  mutable std::mutex mutex_;
  int64_t calls_ = 0, crash_at_ = -1, bytes_left_ = -1;
  std::function<bool(const std::string&)> crash_when_;
  Crash crash_ = Crash::kKill;
  bool crashed_ = false;
  std::map<std::string, int64_t> unflushed_;  // files, and how much of each a power cut leaves
  std::vector<Change> changes_;      // in order
};

}  // namespace trefoil
