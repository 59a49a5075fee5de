// File systems that show one thing otherwise than it is, for tests of those who trust them.
//
//   SeparateFileSystem host(FileSystem::Posix(), "/runs/a", "/other/a");   // "/runs/a/x" is "/other/a/x" here
//
// Threads: as FileSystem.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "runtime/files/file.h"

namespace trefoil {

// Passes every call on; what others build upon.
class PassingFileSystem : public FileSystem {
 public:
  explicit PassingFileSystem(FileSystem& base) : base_(base) {}
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

 protected:
  // The path that the base is asked for.
  virtual std::string Real(const std::string& path) { return path; }
  // Before a call that changes the disk; an error is the call's.
  virtual absl::Status Changing(const std::string& /*path*/) { return absl::OkStatus(); }

 private:
  class File;

  FileSystem& base_;
};

// A host on which a folder is another than elsewhere: one that all should share, and do not.
class SeparateFileSystem final : public PassingFileSystem {
 public:
  SeparateFileSystem(FileSystem& base, std::string folder, std::string real)
      : PassingFileSystem(base), folder_(std::move(folder)), real_(std::move(real)) {}

 protected:
  std::string Real(const std::string& path) override {
    return path.starts_with(folder_) ? real_ + path.substr(folder_.size()) : path;
  }

 private:
  const std::string folder_, real_;
};

// Runs `event` before the k-th call (from 0) that changes the disk.
class InterruptedFileSystem final : public PassingFileSystem {
 public:
  InterruptedFileSystem(FileSystem& base, int64_t k, std::function<void()> event)
      : PassingFileSystem(base), k_(k), event_(std::move(event)) {}
  int64_t calls() const { return calls_; }
  // Besides, before the first such call for a file of this name.
  void BeforeCreating(std::string name, std::function<void()> event) {
    name_ = std::move(name);
    created_ = std::move(event);
  }

 protected:
  absl::Status Changing(const std::string& path) override {
    if (calls_++ == k_) event_();
    if (created_ != nullptr && path.ends_with(name_)) std::exchange(created_, nullptr)();
    return absl::OkStatus();
  }

 private:
  const int64_t k_;
  const std::function<void()> event_;
  std::string name_;
  std::function<void()> created_;
  std::atomic<int64_t> calls_ = 0;
};

// A disk that is slow at saving: what ranks write into the folder of a checkpoint waits until that step is released.
class HeldFileSystem final : public PassingFileSystem {
 public:
  using PassingFileSystem::PassingFileSystem;
  // What is of this step or an earlier one goes on.
  void Release(int64_t step) {
    {
      const std::lock_guard lock(mutex_);
      released_ = std::max(released_, step);
    }
    changed_.notify_all();
  }

 protected:
  absl::Status Changing(const std::string& path) override {
    const size_t at = path.rfind("/step-");
    if (at == std::string::npos || path.find(".partial/rank-") == std::string::npos) return absl::OkStatus();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&, step = std::stoll(path.substr(at + 6))] { return step <= released_; });
    return absl::OkStatus();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int64_t released_ = 0;
};

// A file system that turns read-only, and back.
class ReadOnlyFileSystem final : public PassingFileSystem {
 public:
  using PassingFileSystem::PassingFileSystem;
  void set_read_only(bool is) { is_ = is; }

 protected:
  absl::Status Changing(const std::string& path) override {
    return is_ ? absl::PermissionDeniedError(path + ": read-only file system") : absl::OkStatus();
  }

 private:
  std::atomic<bool> is_ = false;
};

// Of which so much is left.
class SmallFileSystem final : public PassingFileSystem {
 public:
  SmallFileSystem(FileSystem& base, int64_t free_bytes) : PassingFileSystem(base), free_bytes_(free_bytes) {}
  absl::StatusOr<int64_t> FreeBytes(const std::string&) override { return free_bytes_; }

 private:
  const int64_t free_bytes_;
};

// Which has so much room for what is in a folder. A call that finds none left fails; the one before may have taken more.
class QuotaFileSystem final : public PassingFileSystem {
 public:
  QuotaFileSystem(FileSystem& base, std::string folder, int64_t bytes)
      : PassingFileSystem(base), folder_(std::move(folder)), bytes_(bytes) {}
  absl::StatusOr<int64_t> FreeBytes(const std::string&) override { return std::max<int64_t>(0, Left()); }

 protected:
  absl::Status Changing(const std::string& path) override {
    const bool takes = path.find(".partial/") != std::string::npos;
    return takes && Left() < 0 ? absl::ResourceExhaustedError(path + ": no space left on device") : absl::OkStatus();
  }

 private:
  // Files may be removed meanwhile.
  int64_t Left() const {
    int64_t left = bytes_;
    std::error_code error;
    for (std::filesystem::recursive_directory_iterator file(folder_, error), end; !error && file != end;
         file.increment(error)) {
      std::error_code removed;
      const auto bytes = file->is_regular_file(removed) ? file->file_size(removed) : 0;
      if (!removed) left -= static_cast<int64_t>(bytes);
    }
    return left;
  }

  const std::string folder_;
  const int64_t bytes_;
};

}  // namespace trefoil
