#include "data/text/byte_source.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <glog/logging.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iostream>
#include <iterator>
#include <vector>

#include "runtime/files/system_error.h"

namespace trefoil {
namespace {

constexpr size_t kBufferBytes = size_t{256} << 10;

// The file as it is stored.
class StoredSource : public ByteSource {
 public:
  StoredSource(std::string path, int fd, int64_t begin, int64_t end)
      : path_(std::move(path)), fd_(fd), at_(begin), end_(end) {}
  ~StoredSource() override { close(fd_); }

  absl::Status Append(int64_t bytes, std::string* out) override {
    const size_t size = out->size();
    bytes = std::max<int64_t>(std::min(bytes, end_ - at_), 0);
    out->resize(size + bytes);
    ssize_t n = 0;
    if (bytes > 0) {
      do {
        n = pread(fd_, out->data() + size, bytes, at_);
      } while (n < 0 && errno == EINTR);
    }
    if (n < 0) return SystemError(path_, errno);
    out->resize(size + n);
    at_ += n;
    stored_bytes_ += n;
    ended_ = n == 0;
    return absl::OkStatus();
  }

  const std::string& path() const { return path_; }

 private:
  const std::string path_;
  const int fd_;
  int64_t at_;
  const int64_t end_;
};

// What a decompressor keeps of its input: `rest_` is the part of `stored_` not yet used.
class CompressedSource : public ByteSource {
 public:
  explicit CompressedSource(std::unique_ptr<StoredSource> from) : from_(std::move(from)) {}

 protected:
  // Refills an empty `rest_`; it stays empty at the end of the file.
  absl::Status Refill() {
    if (!rest_.empty()) return absl::OkStatus();
    stored_.clear();
    TREFOIL_RETURN_IF_ERROR(from_->Append(kBufferBytes, &stored_));
    rest_ = stored_;
    stored_bytes_ = from_->stored_bytes();
    return absl::OkStatus();
  }
  absl::Status Truncated() const {
    return absl::DataLossError(absl::StrCat(from_->path(), ": cut short: the compressed data stops after ",
                                            from_->stored_bytes(), " bytes without its end mark"));
  }
  absl::Status Broken(const char* format, const char* why) const {
    return absl::DataLossError(absl::StrCat(from_->path(), ": not valid ", format, " data near byte ",
                                            from_->stored_bytes() - static_cast<int64_t>(rest_.size()), ": ", why));
  }

  std::unique_ptr<StoredSource> from_;
  std::string stored_;
  std::string_view rest_;
};

class GzipSource : public CompressedSource {
 public:
  using CompressedSource::CompressedSource;
  ~GzipSource() override { inflateEnd(&stream_); }

  absl::Status Append(int64_t bytes, std::string* out) override {
    const size_t size = out->size();
    out->resize(size + bytes);
    size_t made = 0;
    while (made == 0) {
      TREFOIL_RETURN_IF_ERROR(Refill());
      if (rest_.empty()) {
        if (inside_) return Truncated();
        ended_ = true;
        break;
      }
      if (!inside_) {
        inflateEnd(&stream_);
        stream_ = {};
        CHECK_EQ(inflateInit2(&stream_, 15 + 16), Z_OK);  // 16: gzip header and checksum
        inside_ = true;
      }
      stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(rest_.data()));
      stream_.avail_in = static_cast<uInt>(rest_.size());
      stream_.next_out = reinterpret_cast<Bytef*>(out->data() + size);
      stream_.avail_out = static_cast<uInt>(bytes);
      const int code = inflate(&stream_, Z_NO_FLUSH);
      rest_.remove_prefix(rest_.size() - stream_.avail_in);
      made = bytes - stream_.avail_out;
      if (code == Z_STREAM_END) {
        inside_ = false;
      } else if (code != Z_OK && code != Z_BUF_ERROR) {
        return Broken("gzip", stream_.msg != nullptr ? stream_.msg : zError(code));
      }
    }
    out->resize(size + made);
    return absl::OkStatus();
  }

 private:
  z_stream stream_ = {};
  bool inside_ = false;  // a member has begun and not ended
};

class ZstdSource : public CompressedSource {
 public:
  explicit ZstdSource(std::unique_ptr<StoredSource> from)
      : CompressedSource(std::move(from)), stream_(ZSTD_createDStream()) {
    CHECK(stream_ != nullptr);
  }
  ~ZstdSource() override { ZSTD_freeDStream(stream_); }

  absl::Status Append(int64_t bytes, std::string* out) override {
    const size_t size = out->size();
    out->resize(size + bytes);
    ZSTD_outBuffer output = {out->data() + size, static_cast<size_t>(bytes), 0};
    while (output.pos == 0) {
      TREFOIL_RETURN_IF_ERROR(Refill());
      // With its input used up a frame may still hold output back: only no progress at the end of the file is the end.
      const bool at_end = rest_.empty();
      if (at_end && !inside_) {
        ended_ = true;
        break;
      }
      ZSTD_inBuffer input = {rest_.data(), rest_.size(), 0};
      const size_t code = ZSTD_decompressStream(stream_, &output, &input);
      rest_.remove_prefix(input.pos);
      if (ZSTD_isError(code)) return Broken("Zstandard", ZSTD_getErrorName(code));
      inside_ = code != 0;
      if (at_end && inside_ && output.pos == 0) return Truncated();
    }
    out->resize(size + output.pos);
    return absl::OkStatus();
  }

 private:
  ZSTD_DStream* stream_;
  bool inside_ = false;  // a frame has begun and not ended
};

}  // namespace

bool ByteSource::IsCompressed(const std::string& path) {
  return absl::EndsWith(path, ".gz") || absl::EndsWith(path, ".zst");
}

absl::StatusOr<std::unique_ptr<ByteSource>> ByteSource::Open(const std::string& path, int64_t begin, int64_t end) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return SystemError(path, errno);
  struct stat info;
  if (fstat(fd, &info) != 0) info.st_size = 0;
  if (end < 0 || end > info.st_size) end = info.st_size;  // so that little is asked of a small file
  auto stored = std::make_unique<StoredSource>(path, fd, begin, end);
  if (!IsCompressed(path)) return stored;
  CHECK(begin == 0 && end == info.st_size) << path << " is compressed: it is read whole";
  if (absl::EndsWith(path, ".gz")) return std::make_unique<GzipSource>(std::move(stored));
  return std::make_unique<ZstdSource>(std::move(stored));
}

absl::StatusOr<std::string> ReadDecompressed(const std::string& path) {
  if (path == "-") return std::string(std::istreambuf_iterator<char>(std::cin), {});
  TREFOIL_ASSIGN_OR_RETURN(const std::unique_ptr<ByteSource> source, ByteSource::Open(path, 0, -1));
  std::string content;
  while (!source->ended()) TREFOIL_RETURN_IF_ERROR(source->Append(1 << 20, &content));
  return content;
}

}  // namespace trefoil
