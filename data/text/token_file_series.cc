#include "data/text/token_file_series.h"

#include <absl/strings/str_format.h>

#include <utility>

namespace trefoil {

TokenFileSeries::TokenFileSeries(FileSystem& fs, std::string prefix, int64_t vocabulary, int64_t file_tokens,
                                 std::string description)
    : fs_(fs),
      prefix_(std::move(prefix)),
      vocabulary_(vocabulary),
      file_tokens_(file_tokens),
      description_(std::move(description)) {}

absl::StatusOr<TokenFileWriter*> TokenFileSeries::Writer() {
  if (writer_ != nullptr && writer_->tokens() >= file_tokens_) TREFOIL_RETURN_IF_ERROR(Finish());
  if (writer_ == nullptr) {
    path_ = files_ == 0 ? prefix_ : absl::StrFormat("%s-%03d", prefix_, files_);
    TREFOIL_ASSIGN_OR_RETURN(writer_, TokenFileWriter::Create(fs_, path_, vocabulary_));
    ++files_;
  }
  return writer_.get();
}

absl::Status TokenFileSeries::Finish() {
  if (writer_ == nullptr) return absl::OkStatus();
  if (!description_.empty()) TREFOIL_RETURN_IF_ERROR(WriteFileAtomically(fs_, path_ + ".json", description_));
  TREFOIL_RETURN_IF_ERROR(writer_->Finish());
  finished_tokens_ += writer_->tokens();
  writer_.reset();
  return absl::OkStatus();
}

}  // namespace trefoil
