#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "runtime/files/file.h"
#include "runtime/files/system_error.h"

namespace trefoil {
namespace {

class PosixWritableFile final : public WritableFile {
 public:
  PosixWritableFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  ~PosixWritableFile() override {
    if (fd_ >= 0) close(fd_);
  }

  absl::Status Append(std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      const ssize_t written = write(fd_, bytes.data(), bytes.size());
      if (written < 0) {
        if (errno == EINTR) continue;
        return SystemError(path_, errno);
      }
      bytes = bytes.subspan(static_cast<size_t>(written));
    }
    return absl::OkStatus();
  }

  absl::Status Flush() override {
    const bool done = fsync(fd_) == 0 || errno == EINVAL;  // EINVAL: a pipe or a terminal
    return done ? absl::OkStatus() : SystemError(path_, errno);
  }

  absl::Status Close() override {
    const absl::Status flushed = Flush();
    const int close_error = close(std::exchange(fd_, -1)) == 0 ? 0 : errno;
    return flushed.ok() && close_error != 0 ? SystemError(path_, close_error) : flushed;
  }

 private:
  const std::string path_;
  int fd_;
};

class PosixReadableFile final : public ReadableFile {
 public:
  PosixReadableFile(std::string path, int fd, const struct stat& info) : path_(std::move(path)), fd_(fd), info_(info) {}
  ~PosixReadableFile() override { close(fd_); }

  int64_t size() const override { return info_.st_size; }

  absl::Status Read(int64_t offset, std::span<std::byte> out) const override {
    while (!out.empty()) {
      const ssize_t got = pread(fd_, out.data(), out.size(), offset);
      if (got < 0) {
        if (errno == EINTR) continue;
        return SystemError(path_, errno);
      }
      if (got == 0) {
        return absl::OutOfRangeError(path_ + ": ends at byte " + std::to_string(offset) + ", but " +
                                     std::to_string(out.size()) + " more bytes were expected");
      }
      out = out.subspan(static_cast<size_t>(got));
      offset += got;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> ReadAll() const override {
    lseek(fd_, 0, SEEK_SET);  // in vain for a pipe, which is read from where it is
    constexpr size_t kAtLeast = 4096;
    std::string content(std::max(static_cast<size_t>(info_.st_size) + 1, kAtLeast), '\0');
    size_t bytes = 0;
    while (true) {
      const ssize_t got = read(fd_, content.data() + bytes, content.size() - bytes);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return SystemError(path_, errno);
      bytes += static_cast<size_t>(got);
      if (got == 0) break;
      if (bytes == content.size()) content.resize(2 * bytes);
    }
    content.resize(bytes);
    return content;
  }

  absl::Status Unchanged() const override {
    struct stat now;
    if (fstat(fd_, &now) != 0) return SystemError(path_, errno);
    if (now.st_size != info_.st_size) {
      return absl::DataLossError(path_ + ": has " + std::to_string(now.st_size) + " bytes, had " +
                                 std::to_string(info_.st_size) + " when it was opened: it was changed while in use");
    }
    if (now.st_mtim.tv_sec != info_.st_mtim.tv_sec || now.st_mtim.tv_nsec != info_.st_mtim.tv_nsec) {
      return absl::DataLossError(path_ + ": was written to after it was opened: it was changed while in use");
    }
    return absl::OkStatus();
  }

  void ExpectRandomReads() const override { posix_fadvise(fd_, 0, 0, POSIX_FADV_RANDOM); }

 private:
  const std::string path_;
  const int fd_;
  const struct stat info_;
};

// The soft limit on file descriptors is often 1024, the hard one hundreds of thousands.
bool RaiseFileLimit() {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return false;
  limit.rlim_cur = limit.rlim_max;
  return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

class PosixFileSystem final : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return SystemError(path, errno);
    return std::make_unique<PosixWritableFile>(path, fd);
  }

  absl::StatusOr<std::unique_ptr<WritableFile>> Extend(const std::string& path, int64_t bytes) override {
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return SystemError(path, errno);
    struct stat info;
    const bool cut = fstat(fd, &info) == 0 && (info.st_size <= bytes || ftruncate(fd, bytes) == 0);
    const int error = errno;
    auto file = std::make_unique<PosixWritableFile>(path, fd);
    if (!cut) return SystemError(path, error);
    return file;
  }

  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(const std::string& path) override {
    int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == EMFILE && RaiseFileLimit()) fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return SystemError(path, errno);
    struct stat info;
    const int error = fstat(fd, &info) != 0 ? errno : S_ISDIR(info.st_mode) ? EISDIR : 0;
    if (error != 0) {
      close(fd);
      return SystemError(path, error);
    }
    return std::make_unique<PosixReadableFile>(path, fd, info);
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (rename(from.c_str(), to.c_str()) != 0) {
      const int error = errno;
      return SystemError(from + " -> " + to, error);
    }
    return absl::OkStatus();
  }

  absl::Status RenameIfFree(const std::string& from, const std::string& to) override {
    if (link(from.c_str(), to.c_str()) == 0) return Remove(from);
    const int error = errno;
    struct stat info;
    // Over NFS the answer to a link that was made may be lost, and the call repeated: the count of names is the truth.
    if (lstat(from.c_str(), &info) == 0 && info.st_nlink == 2) return Remove(from);
    if (error == EPERM || error == EOPNOTSUPP || error == ENOSYS || error == EMLINK) {  // no second names here
      if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return absl::OkStatus();
      return SystemError(to, errno);
    }
    return SystemError(error == ENOENT ? from : to, error);
  }

  absl::Status MakeFolder(const std::string& path) override {
    if (path.empty() || path == "/") return absl::OkStatus();
    if (path.back() == '/') return MakeFolder(path.substr(0, path.find_last_not_of('/') + 1));
    struct stat info;
    if (stat(path.c_str(), &info) == 0) {
      return S_ISDIR(info.st_mode) ? absl::OkStatus() : SystemError(path, ENOTDIR);
    }
    const std::string above = FolderOf(path);
    if (above != path) TREFOIL_RETURN_IF_ERROR(MakeFolder(above));
    if (mkdir(path.c_str(), 0777) != 0) {
      // Another rank may have made it in between.
      if (errno == EEXIST && stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return absl::OkStatus();
      return SystemError(path, errno);
    }
    return absl::OkStatus();
  }

  absl::Status FlushFolder(const std::string& path) override {
    const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return SystemError(path, errno);
    const int error = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    // Some file systems cannot flush a folder and say so by EINVAL.
    return error == 0 || error == EINVAL ? absl::OkStatus() : SystemError(path, error);
  }

  absl::Status Remove(const std::string& path) override {
    struct stat info;
    if (lstat(path.c_str(), &info) != 0) return errno == ENOENT ? absl::OkStatus() : SystemError(path, errno);
    if (S_ISDIR(info.st_mode)) {
      TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> names, List(path));
      for (const std::string& name : names) TREFOIL_RETURN_IF_ERROR(Remove(path + "/" + name));
    }
    if (remove(path.c_str()) != 0 && errno != ENOENT) return SystemError(path, errno);
    return absl::OkStatus();
  }

  bool Exists(const std::string& path) override {
    struct stat info;
    return stat(path.c_str(), &info) == 0;
  }

  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    DIR* folder = opendir(path.c_str());
    if (folder == nullptr) return SystemError(path, errno);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = readdir(folder)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
      errno = 0;
    }
    const int error = errno;
    closedir(folder);
    if (error != 0) return SystemError(path, error);
    std::sort(names.begin(), names.end());
    return names;
  }

  absl::StatusOr<double> ModifiedSeconds(const std::string& path) override {
    // Over NFS only an open looks at the file anew.
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return SystemError(path, errno);
    struct stat info;
    const int error = fstat(fd, &info) == 0 ? 0 : errno;
    close(fd);
    if (error != 0) return SystemError(path, error);
    return static_cast<double>(info.st_mtim.tv_sec) + static_cast<double>(info.st_mtim.tv_nsec) * 1e-9;
  }

  absl::Status Touch(const std::string& path) override {
    return utimensat(AT_FDCWD, path.c_str(), nullptr, 0) == 0 ? absl::OkStatus() : SystemError(path, errno);
  }

  absl::StatusOr<int64_t> FreeBytes(const std::string& path) override {
    struct statvfs info;
    if (statvfs(path.c_str(), &info) != 0) return SystemError(path, errno);
    return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
  }
};

}  // namespace

FileSystem& FileSystem::Posix() {
  static PosixFileSystem* const posix = new PosixFileSystem;  // no state: any thread may be the last to use it
  return *posix;
}

}  // namespace trefoil
