#include "data/loader.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "runtime/file.h"

namespace trefoil {

// A .bin without its .idx (or the other way round) is matched too, so that opening it says what is missing.
absl::StatusOr<std::vector<std::string>> MatchTokenFiles(const std::vector<std::string>& globs) {
  std::set<std::string> prefixes;
  for (std::string glob : globs) {
    for (const char* extension : {".idx", ".bin"}) {
      if (absl::EndsWith(glob, extension)) glob.resize(glob.size() - 4);
    }
    if (glob.find_first_of("*?[") == std::string::npos) {
      prefixes.insert(glob);
      continue;
    }
    const size_t before = prefixes.size();
    bool matched = false;
    for (const char* extension : {".idx", ".bin"}) {
      for (const std::string& path : Glob(glob + extension)) {
        prefixes.insert(path.substr(0, path.size() - 4));
        matched = true;
      }
    }
    if (!matched && prefixes.size() == before) {
      return absl::NotFoundError(absl::StrCat(glob, ": no token file matches; ", glob,
                                              ".idx and .bin are looked for, as written by `trefoil tokenize`"));
    }
  }
  if (prefixes.empty()) return absl::InvalidArgumentError("no token files named; name at least one prefix or pattern");
  return std::vector<std::string>(prefixes.begin(), prefixes.end());
}

Loader::Loader(std::vector<TokenFile> files, std::vector<int64_t> starts, int64_t sequence_length, int64_t vocabulary,
               uint64_t seed)
    : files_(std::move(files)),
      starts_(std::move(starts)),
      sequence_length_(sequence_length),
      vocabulary_(vocabulary),
      sampler_((starts_.back() - 1) / sequence_length, seed) {}

absl::StatusOr<std::unique_ptr<Loader>> Loader::Open(const std::vector<std::string>& globs, int64_t sequence_length,
                                                     int64_t vocabulary, uint64_t seed) {
  CHECK_GE(sequence_length, 1);
  CHECK_GE(vocabulary, 1);
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> prefixes, MatchTokenFiles(globs));
  std::vector<TokenFile> files;
  std::vector<int64_t> starts = {0};
  for (const std::string& prefix : prefixes) {
    TREFOIL_ASSIGN_OR_RETURN(TokenFile file, TokenFile::Open(prefix));
    starts.push_back(starts.back() + file.tokens());
    files.push_back(std::move(file));
  }
  if (starts.back() < sequence_length + 1) {
    const int64_t longest = starts.back() - 1;
    return absl::InvalidArgumentError(absl::StrCat(
        absl::StrJoin(globs, ", "), ": zero-length corpus: ", starts.back(), " tokens in ", files.size(),
        " files make no sample; one of sequence_length ", sequence_length, " needs ", sequence_length + 1,
        longest >= 1 ? absl::StrCat("; largest sequence_length these tokens allow: ", longest)
                     : std::string("; any sample needs at least 2")));
  }
  return std::unique_ptr<Loader>(new Loader(std::move(files), std::move(starts), sequence_length, vocabulary, seed));
}

absl::Status Loader::Read(int64_t begin, std::span<int32_t> out) const {
  size_t file = std::upper_bound(starts_.begin(), starts_.end(), begin) - starts_.begin() - 1;
  while (!out.empty()) {
    const int64_t position = begin - starts_[file];
    const int64_t count = std::min<int64_t>(out.size(), starts_[file + 1] - begin);
    const std::span<int32_t> part = out.first(count);
    files_[file].Read(position, part);
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

absl::Status Loader::ReadSample(int64_t index, std::span<int32_t> scratch, int64_t row, Batch* batch) const {
  TREFOIL_RETURN_IF_ERROR(Read(index * sequence_length_, scratch));
  const int64_t at = row * sequence_length_;
  std::copy(scratch.begin(), scratch.end() - 1, batch->inputs.begin() + at);
  std::copy(scratch.begin() + 1, scratch.end(), batch->targets.begin() + at);
  return absl::OkStatus();
}

absl::StatusOr<Batch> Loader::Get(int64_t first_sample, int64_t count) const {
  CHECK_GE(first_sample, 0);
  CHECK_GE(count, 0);
  Batch batch{.samples = count, .length = sequence_length_, .first_sample = first_sample, .inputs = {}, .targets = {}};
  batch.inputs.resize(count * sequence_length_);
  batch.targets.resize(count * sequence_length_);
  std::vector<int32_t> scratch(sequence_length_ + 1);
  for (int64_t row = 0; row < count; ++row) {
    TREFOIL_RETURN_IF_ERROR(ReadSample(sampler_.Index(first_sample + row), scratch, row, &batch));
  }
  return batch;
}

absl::StatusOr<Batch> Loader::GetInOrder(int64_t first, int64_t count) const {
  CHECK_GE(first, 0);
  CHECK_GE(count, 0);
  CHECK_LE(first + count, samples());
  Batch batch{.samples = count, .length = sequence_length_, .first_sample = first, .inputs = {}, .targets = {}};
  batch.inputs.resize(count * sequence_length_);
  batch.targets.resize(count * sequence_length_);
  std::vector<int32_t> scratch(sequence_length_ + 1);
  for (int64_t row = 0; row < count; ++row) {
    TREFOIL_RETURN_IF_ERROR(ReadSample(first + row, scratch, row, &batch));
  }
  return batch;
}

absl::StatusOr<double> Loader::UnigramEntropy() const {
  constexpr int64_t kChunk = 1 << 16;
  std::vector<int64_t> counts(vocabulary_);
  std::vector<int32_t> chunk;
  for (int64_t begin = 0; begin < tokens(); begin += kChunk) {
    chunk.resize(std::min(kChunk, tokens() - begin));
    TREFOIL_RETURN_IF_ERROR(Read(begin, chunk));
    for (int32_t id : chunk) ++counts[id];
  }
  double entropy = 0;
  for (int64_t count : counts) {
    if (count == 0) continue;
    const double p = static_cast<double>(count) / static_cast<double>(tokens());
    entropy -= p * std::log(p);
  }
  return entropy;
}

}  // namespace trefoil
