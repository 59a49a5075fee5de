// Token files as records: samples that are several short sequences and perhaps a label, whole documents each.
//
//   TREFOIL_ASSIGN_OR_RETURN(RecordSet records, RecordSet::Open({"reviews/train-*"}));
//   records.description().parts;                                  // text, label
//   TREFOIL_ASSIGN_OR_RETURN(const Record record, records.Read(records.size() - 1));
//   record[0];                                                    // the tokens of the last review
//
// Files are found and sorted as those of a TokenSet; data/records/record_description.h says what they hold. Record i
// of the set follows record i - 1, over the files.
//
// Opening reads the indices, and each label and value, so that a mistake there is found before anything is trained;
// texts are read when they are asked for. Memory: 8 bytes a document. Each .bin stays open.
//
// Movable. Threads: const calls from any.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/records/record_description.h"
#include "data/tokens/token_file.h"
#include "runtime/status.h"

namespace trefoil {

// A document for each part.
using Record = std::vector<std::vector<int32_t>>;

class RecordSet {
 public:
  // Failure: as MatchTokenFiles and TokenFile::Open; a description that is missing, broken, or another than the first
  // file's; documents that make no whole number of records; an empty text; a part of another length than its kind has;
  // a label out of range, or a value that is no finite number. Messages name file, record and part.
  static absl::StatusOr<RecordSet> Open(const std::vector<std::string>& globs, FileSystem& fs = FileSystem::Posix());

  int64_t size() const { return static_cast<int64_t>(starts_.size() - 1) / parts(); }
  const RecordDescription& description() const { return description_; }
  int64_t parts() const { return static_cast<int64_t>(description_.parts.size()); }
  // Of a part of a record.
  int64_t Length(int64_t record, int64_t part) const {
    const auto document = static_cast<size_t>(record * parts() + part);
    return starts_[document + 1] - starts_[document];
  }
  // How often each label occurs, as the label of a record or of a token; empty without labels.
  const std::vector<int64_t>& label_counts() const { return label_counts_; }
  // The patterns, for messages.
  const std::string& name() const { return name_; }
  const std::vector<TokenFile>& files() const { return files_; }

  // Failure: a token of a text outside [0, vocabulary); a file that cannot be read or was changed since it was opened.
  absl::StatusOr<Record> Read(int64_t record) const;

  // Whether its records are of these parts, as `task` ("translation") needs them.
  absl::Status CheckParts(const std::vector<RecordPart>& parts, const std::string& task) const;
  // Whether its tokens are those of the tokenizer with this checksum, which is at `path`.
  absl::Status CheckTokenizer(uint32_t checksum, const std::string& path) const;
  // Whether another set, held out, may be used with this one: their descriptions are the same.
  absl::Status CheckAlike(const RecordSet& other) const;

 private:
  RecordSet() = default;
  absl::Status AddFile(const std::string& prefix, FileSystem& fs);
  absl::Status CheckLengths(int64_t record) const;
  // Of labels and values, whose numbers are counted.
  absl::Status CheckNumbers(int64_t record);
  absl::Status CheckTexts(int64_t record, const Record& parts) const;
  size_t FileOf(int64_t record) const;
  absl::Status Read(int64_t record, int64_t part, std::vector<int32_t>* ids) const;
  // "FILE.bin: record 3: its label ...".
  absl::Status Bad(int64_t record, int64_t part, const std::string& what) const;

  std::string name_;
  RecordDescription description_;
  std::vector<TokenFile> files_;
  std::vector<int64_t> file_records_, file_tokens_;  // record and token in the set where each file begins
  std::vector<int64_t> starts_;                      // token in the set where each document begins, then their number
  std::vector<int64_t> label_counts_;
};

}  // namespace trefoil
