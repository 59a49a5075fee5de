// The bytes of a file or a part of it, decompressed on the way.
//
//   TREFOIL_ASSIGN_OR_RETURN(auto source, ByteSource::Open("x.jsonl.gz", 0, -1));
//   TREFOIL_RETURN_IF_ERROR(source->Append(1 << 20, &buffer));   // nothing more: source->ended()
//
// A name that ends in .gz is read as gzip (members one after the other are fine), one in .zst as Zstandard (frames
// likewise), any other as it is. Memory: about 1 MB. One thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/status.h"

namespace trefoil {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Bytes [begin, end) of the file; end < 0: to its end. Compressed files are read whole: begin is 0, end < 0.
  static absl::StatusOr<std::unique_ptr<ByteSource>> Open(const std::string& path, int64_t begin, int64_t end);
  // Whether a file of this name is compressed.
  static bool IsCompressed(const std::string& path);

  // Appends up to `bytes` more bytes to `out`: none only at the end.
  // Failure: unreadable, cut short, or not of the format that its name says; names the file.
  virtual absl::Status Append(int64_t bytes, std::string* out) = 0;
  bool ended() const { return ended_; }
  // Bytes of the file, as stored, that were read.
  int64_t stored_bytes() const { return stored_bytes_; }

 protected:
  bool ended_ = false;
  int64_t stored_bytes_ = 0;
};

// The whole content of a file, decompressed; of "-" standard input, as it is.
absl::StatusOr<std::string> ReadDecompressed(const std::string& path);

}  // namespace trefoil
