#include "data/tokens/token_set.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <glog/logging.h>

#include <algorithm>
#include <set>
#include <utility>

#include "runtime/files/file.h"

namespace trefoil {

// A .bin without its .idx (or the other way round) is matched too, so that opening it says what is missing.
absl::StatusOr<std::vector<std::string>> MatchTokenFiles(const std::vector<std::string>& globs, FileSystem& fs) {
  std::set<std::string> prefixes;
  for (std::string glob : globs) {
    for (const char* extension : {".idx", ".bin"}) {
      if (absl::EndsWith(glob, extension)) glob.resize(glob.size() - 4);
    }
    if (glob.find_first_of("*?[") == std::string::npos || fs.Exists(glob + ".idx") || fs.Exists(glob + ".bin")) {
      prefixes.insert(glob);
      continue;
    }
    bool matched = false;
    for (const char* extension : {".idx", ".bin"}) {
      for (const std::string& path : Glob(glob + extension)) {
        prefixes.insert(path.substr(0, path.size() - 4));
        matched = true;
      }
    }
    if (!matched) {
      return absl::NotFoundError(absl::StrCat(glob, ": no token file matches; ", glob,
                                              ".idx and .bin are looked for, as written by `trefoil tokenize`"));
    }
  }
  if (prefixes.empty()) return absl::InvalidArgumentError("no token files named; name at least one prefix or pattern");
  return std::vector<std::string>(prefixes.begin(), prefixes.end());
}

absl::StatusOr<TokenSet> TokenSet::Open(const std::vector<std::string>& globs, int64_t sequence_length,
                                        int64_t vocabulary, FileSystem& fs) {
  CHECK_GE(sequence_length, 1);
  CHECK_GE(vocabulary, 1);
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> prefixes, MatchTokenFiles(globs, fs));
  TokenSet set;
  set.sequence_length_ = sequence_length;
  set.vocabulary_ = vocabulary;
  set.starts_ = {0};
  for (const std::string& prefix : prefixes) {
    TREFOIL_ASSIGN_OR_RETURN(TokenFile file, TokenFile::Open(prefix, fs));
    set.starts_.push_back(set.starts_.back() + file.tokens());
    set.files_.push_back(std::move(file));
  }
  if (set.tokens() < sequence_length + 1) {
    const int64_t longest = set.tokens() - 1;
    return absl::InvalidArgumentError(absl::StrCat(
        absl::StrJoin(globs, ", "), ": zero-length corpus: ", set.tokens(), " tokens in ", set.files_.size(),
        " files make no sample; one of sequence_length ", sequence_length, " needs ", sequence_length + 1,
        longest >= 1 ? absl::StrCat("; largest sequence_length these tokens allow: ", longest)
                     : std::string("; any sample needs at least 2")));
  }
  return set;
}

absl::Status TokenSet::FindDocuments(FileSystem& fs) {
  documents_.clear();
  for (size_t i = 0; i < files_.size(); ++i) {
    TREFOIL_RETURN_IF_ERROR(files_[i].ForEachDocument(fs, [&](int64_t begin, int64_t length) {
      if (length > 0) documents_.push_back(starts_[i] + begin);
    }));
  }
  return absl::OkStatus();
}

void TokenSet::DocumentStarts(int64_t index, std::span<int32_t> starts) const {
  CHECK(!documents_.empty());
  const int64_t first = index * sequence_length_;
  auto next = std::upper_bound(documents_.begin(), documents_.end(), first);
  int32_t start = 0;
  for (size_t i = 0; i < starts.size(); ++i) {
    if (next != documents_.end() && *next == first + static_cast<int64_t>(i)) {
      start = static_cast<int32_t>(i);
      ++next;
    }
    starts[i] = start;
  }
}

absl::Status TokenSet::ReadSample(int64_t index, std::span<int32_t> out) const {
  CHECK(index >= 0 && index < samples()) << index << " of " << samples();
  CHECK_EQ(static_cast<int64_t>(out.size()), sequence_length_ + 1);
  int64_t begin = index * sequence_length_;
  size_t file = std::upper_bound(starts_.begin(), starts_.end(), begin) - starts_.begin() - 1;
  while (!out.empty()) {
    const int64_t position = begin - starts_[file];
    const int64_t count = std::min<int64_t>(out.size(), starts_[file + 1] - begin);
    const std::span<int32_t> part = out.first(count);
    TREFOIL_RETURN_IF_ERROR(files_[file].Read(position, part));
    for (int64_t i = 0; i < count; ++i) {
      if (part[i] < 0 || part[i] >= vocabulary_) {
        return absl::OutOfRangeError(absl::StrCat(
            files_[file].prefix(), ".bin: token ", position + i, " has id ", part[i], "; ids are in [0, ", vocabulary_,
            ") with vocabulary ", vocabulary_, ": were these files written with another tokenizer?"));
      }
    }
    out = out.subspan(count);
    begin += count;
    ++file;
  }
  return absl::OkStatus();
}

}  // namespace trefoil
