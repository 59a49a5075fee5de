#include "data/records/record_set.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "data/tokens/token_set.h"

namespace trefoil {

absl::StatusOr<RecordSet> RecordSet::Open(const std::vector<std::string>& globs, FileSystem& fs) {
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> prefixes, MatchTokenFiles(globs, fs));
  RecordSet set;
  set.name_ = absl::StrJoin(globs, ", ");
  set.starts_ = {0};
  for (const std::string& prefix : prefixes) TREFOIL_RETURN_IF_ERROR(set.AddFile(prefix, fs));
  return set;
}

absl::Status RecordSet::AddFile(const std::string& prefix, FileSystem& fs) {
  const std::string path = prefix + ".json";
  TREFOIL_ASSIGN_OR_RETURN(TokenFile file, TokenFile::Open(prefix, fs));
  const auto json = ReadFile(fs, path);
  if (absl::IsNotFound(json.status())) {
    return absl::NotFoundError(absl::StrCat(path, ": missing; records are token files with a description beside them, ",
                                            "as written by `trefoil tokenize --records`; these may be plain text"));
  }
  TREFOIL_RETURN_IF_ERROR(json.status());
  TREFOIL_ASSIGN_OR_RETURN(RecordDescription description, ParseRecordDescription(*json, path));
  if (files_.empty()) {
    description_ = std::move(description);
    label_counts_.resize(description_.labels.size());
  } else if (description != description_) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", Difference(description, description_), " as in ",
                                                   files_.front().prefix(),
                                                   ".json; the files of one set have the same description"));
  }
  if (file.documents() % parts() != 0) {
    return absl::InvalidArgumentError(absl::StrCat(prefix, ".idx: ", file.documents(), " documents; a record has ",
                                                   parts(), " of them (", Names(description_.parts),
                                                   "), so that their number is a multiple of that"));
  }
  file_records_.push_back(size());
  file_tokens_.push_back(starts_.back());
  TREFOIL_RETURN_IF_ERROR(
      file.ForEachDocument(fs, [&](int64_t, int64_t length) { starts_.push_back(starts_.back() + length); }));
  files_.push_back(std::move(file));
  for (int64_t record = file_records_.back(); record < size(); ++record) {
    TREFOIL_RETURN_IF_ERROR(CheckLengths(record));
    TREFOIL_RETURN_IF_ERROR(CheckNumbers(record));
  }
  return absl::OkStatus();
}

absl::Status RecordSet::CheckLengths(int64_t record) const {
  for (int64_t p = 0; p < parts(); ++p) {
    const RecordPart part = description_.parts[static_cast<size_t>(p)];
    const int64_t length = Length(record, p);
    if (IsText(part)) {
      const int64_t least = part == RecordPart::kConversation ? 2 : 1;
      if (length < least) return Bad(record, p, absl::StrCat("has ", length, " tokens; at least ", least));
      continue;
    }
    int64_t expected = part == RecordPart::kValue ? 4 : 1;
    if (part == RecordPart::kTokenLabels || part == RecordPart::kAnswers) {
      const auto text = part == RecordPart::kAnswers ? RecordPart::kConversation : RecordPart::kText;
      const int of = description_.Find(text);
      if (of < 0) return Bad(record, p, absl::StrCat("needs a part ", Name(text), ", one id a token"));
      expected = Length(record, of);
    }
    if (length != expected) return Bad(record, p, absl::StrCat("has ", length, " ids; it is to have ", expected));
  }
  return absl::OkStatus();
}

absl::Status RecordSet::CheckNumbers(int64_t record) {
  for (int64_t p = 0; p < parts(); ++p) {
    const RecordPart part = description_.parts[static_cast<size_t>(p)];
    if (part != RecordPart::kLabel && part != RecordPart::kTokenLabels && part != RecordPart::kValue) continue;
    std::vector<int32_t> ids;
    TREFOIL_RETURN_IF_ERROR(Read(record, p, &ids));
    if (part == RecordPart::kValue) {
      const float value = ValueOf(ids);
      if (!std::isfinite(value)) return Bad(record, p, absl::StrCat("is ", value, "; it is to be finite"));
      continue;
    }
    const int32_t none = part == RecordPart::kTokenLabels ? 1 : 0;
    const auto labels = static_cast<int32_t>(label_counts_.size());
    for (const int32_t id : ids) {
      if (id < 0 || id >= labels + none) {
        return Bad(record, p,
                   absl::StrCat("has id ", id, "; with ", labels, " labels ids are in [0, ", labels + none, ")"));
      }
      if (id >= none) ++label_counts_[static_cast<size_t>(id - none)];
    }
  }
  return absl::OkStatus();
}

absl::Status RecordSet::CheckTexts(int64_t record, const Record& parts) const {
  for (size_t p = 0; p < parts.size(); ++p) {
    const int64_t ids = IsText(description_.parts[p]) ? description_.vocabulary : description_.StoredVocabulary();
    for (const int32_t id : parts[p]) {
      if (id >= 0 && id < ids) continue;
      return Bad(record, static_cast<int64_t>(p),
                 absl::StrCat("has id ", id, "; ids are in [0, ", ids, "): is the description that of another pair?"));
    }
  }
  return absl::OkStatus();
}

size_t RecordSet::FileOf(int64_t record) const {
  return std::upper_bound(file_records_.begin(), file_records_.end(), record) - file_records_.begin() - 1;
}

absl::Status RecordSet::Read(int64_t record, int64_t part, std::vector<int32_t>* ids) const {
  const size_t file = FileOf(record);
  ids->resize(static_cast<size_t>(Length(record, part)));
  return files_[file].Read(starts_[static_cast<size_t>(record * parts() + part)] - file_tokens_[file], *ids);
}

absl::StatusOr<Record> RecordSet::Read(int64_t record) const {
  CHECK(record >= 0 && record < size()) << record << " of " << size();
  Record read(static_cast<size_t>(parts()));
  for (int64_t p = 0; p < parts(); ++p) TREFOIL_RETURN_IF_ERROR(Read(record, p, &read[static_cast<size_t>(p)]));
  TREFOIL_RETURN_IF_ERROR(CheckTexts(record, read));
  return read;
}

absl::Status RecordSet::Bad(int64_t record, int64_t part, const std::string& what) const {
  const size_t file = FileOf(record);
  return absl::InvalidArgumentError(absl::StrCat(files_[file].prefix(), ".bin: record ", record - file_records_[file],
                                                 ": its ", Name(description_.parts[static_cast<size_t>(part)]), " ",
                                                 what));
}

absl::Status RecordSet::CheckParts(const std::vector<RecordPart>& parts, const std::string& task) const {
  if (description_.parts == parts) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name_, ": records of ", Names(description_.parts), "; ", task, " needs ", Names(parts)));
}

absl::Status RecordSet::CheckTokenizer(uint32_t checksum, const std::string& path) const {
  if (checksum == description_.tokenizer) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s: written with tokenizer %08x, but %s is %08x; name that one as data.tokenizer, or tokenize with this one",
      name_, description_.tokenizer, path, checksum));
}

absl::Status RecordSet::CheckAlike(const RecordSet& other) const {
  if (other.description_ == description_) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(other.name_, ": ", Difference(other.description_, description_),
                                                 " as in ", name_, "; what is compared has the same description"));
}

}  // namespace trefoil
