// Token files one after the other: train-00003, and where that has grown large train-00003-001, train-00003-002 ...
//
//   TokenFileSeries files(fs, folder + "/train-00003", tokenizer.vocabulary(), /*file_tokens=*/int64_t{1} << 29);
//   TREFOIL_ASSIGN_OR_RETURN(TokenFileWriter * writer, files.Writer());
//   TREFOIL_RETURN_IF_ERROR(writer->AddDocument(ids));
//   TREFOIL_RETURN_IF_ERROR(files.Finish());
//
// A file is begun when it is asked for, so that none is without tokens. With a description, PREFIX.json is written
// beside each pair before it is finished (data/records/record_description.h).
//
// Failure: as TokenFileWriter. One thread at a time. The file system outlives it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "data/tokens/token_file.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

class TokenFileSeries {
 public:
  TokenFileSeries(FileSystem& fs, std::string prefix, int64_t vocabulary, int64_t file_tokens,
                  std::string description = "");

  // Of the file at hand; where that has `file_tokens` tokens or there is none yet, of a new one. Valid until the next
  // call.
  absl::StatusOr<TokenFileWriter*> Writer();
  absl::Status Finish();

  // Of all files so far.
  int64_t tokens() const { return finished_tokens_ + (writer_ == nullptr ? 0 : writer_->tokens()); }
  int64_t files() const { return files_; }

 private:
  FileSystem& fs_;
  const std::string prefix_;
  const int64_t vocabulary_, file_tokens_;
  const std::string description_;
  std::string path_;  // prefix of the file at hand
  std::unique_ptr<TokenFileWriter> writer_;
  int64_t finished_tokens_ = 0;
  int files_ = 0;
};

}  // namespace trefoil
