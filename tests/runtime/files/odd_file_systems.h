// File systems that show one thing otherwise than it is, for tests of those who trust them.
//
//   SeparateFileSystem host(FileSystem::Posix(), "/runs/a", "/other/a");   // "/runs/a/x" is "/other/a/x" here
//
// Threads: as FileSystem.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
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
  // Before a call that changes the disk.
  virtual void Changing(const std::string& /*path*/) {}

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
  void Changing(const std::string& path) override {
    if (calls_++ == k_) event_();
    if (created_ != nullptr && path.ends_with(name_)) std::exchange(created_, nullptr)();
  }

 private:
  const int64_t k_;
  const std::function<void()> event_;
  std::string name_;
  std::function<void()> created_;
  std::atomic<int64_t> calls_ = 0;
};

// A disk that is slow: each call for a file whose path ends so takes so long.
class SlowFileSystem final : public PassingFileSystem {
 public:
  SlowFileSystem(FileSystem& base, std::string name, double seconds)
      : PassingFileSystem(base), name_(std::move(name)), seconds_(seconds) {}

 protected:
  void Changing(const std::string& path) override {
    if (path.ends_with(name_)) std::this_thread::sleep_for(std::chrono::duration<double>(seconds_));
  }

 private:
  const std::string name_;
  const double seconds_;
};

// Of which so much is left.
class SmallFileSystem final : public PassingFileSystem {
 public:
  SmallFileSystem(FileSystem& base, int64_t free_bytes) : PassingFileSystem(base), free_bytes_(free_bytes) {}
  absl::StatusOr<int64_t> FreeBytes(const std::string&) override { return free_bytes_; }

 private:
  const int64_t free_bytes_;
};

}  // namespace trefoil
