#include "training/log/growing_file.h"

#include <span>
#include <utility>

namespace trefoil {

GrowingFile::GrowingFile(FileSystem& fs, std::string path, std::string head)
    : fs_(fs), path_(std::move(path)), head_(std::move(head)) {}

absl::Status GrowingFile::Open(int64_t bytes) {
  bytes_ = bytes;
  TREFOIL_ASSIGN_OR_RETURN(file_, fs_.Extend(path_, bytes));
  return bytes == 0 && !head_.empty() ? Append(head_) : absl::OkStatus();
}

absl::Status GrowingFile::Add(std::string_view record) {
  if (!fs_.Exists(path_)) {
    file_ = nullptr;
    bytes_ = 0;
  }
  if (file_ == nullptr) TREFOIL_RETURN_IF_ERROR(Open(bytes_));
  return Append(record);
}

absl::Status GrowingFile::Append(std::string_view bytes) {
  const absl::Status status = file_->Append(std::as_bytes(std::span(bytes)));
  if (status.ok()) {
    bytes_ += static_cast<int64_t>(bytes.size());
  } else {
    // Of the head nothing is left either: bytes_ is 0 then, and the next Open writes it.
    file_ = nullptr;
    fs_.Extend(path_, bytes_).status().IgnoreError();
  }
  return status;
}

absl::Status GrowingFile::Flush() {
  if (file_ == nullptr) return absl::OkStatus();
  const absl::Status status = file_->Flush();
  if (!status.ok()) file_ = nullptr;
  return status;
}

}  // namespace trefoil
