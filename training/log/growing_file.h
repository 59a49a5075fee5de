// A file that grows by whole records while others read it, and without which a run goes on: metrics.jsonl, an event
// file.
//
//   GrowingFile file(fs, "runs/a/metrics.jsonl");
//   TREFOIL_RETURN_IF_ERROR(file.Open(/*bytes=*/0));
//   const absl::Status status = file.Add("{\"step\":1}\n");
//
// Others never see a record joined to a part of another: what got into the file of a record that failed (a full disk)
// is cut off, at once if that can be done, before the next record otherwise. A file that somebody moved away or removed
// is made anew. The one that writes it is the only one.
//
// What survives a power cut: what was there at the last Flush.
// Failure: a Status that names the path; nothing of the record counts. The next Add tries again, from the opening on.
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/files/file.h"

namespace trefoil {

class GrowingFile {
 public:
  // `head`: what the file must begin with. `fs` must outlive this.
  GrowingFile(FileSystem& fs, std::string path, std::string head = "");

  const std::string& path() const { return path_; }
  // Keeps the first `bytes` bytes of what is there, which end with a record; with 0 the file begins with the head.
  absl::Status Open(int64_t bytes);
  // The record is in the file on return.
  absl::Status Add(std::string_view record);
  absl::Status Flush();

 private:
  absl::Status Append(std::string_view bytes);

  FileSystem& fs_;
  const std::string path_, head_;
  std::unique_ptr<WritableFile> file_;  // null: to be opened
  int64_t bytes_ = 0;                   // of whole records
};

}  // namespace trefoil
