// Token files put end to end and cut into samples.
//
//   TREFOIL_ASSIGN_OR_RETURN(TokenSet set, TokenSet::Open({"corpus/train-*"}, /*sequence_length=*/256, vocabulary));
//   std::vector<int32_t> tokens(256 + 1);
//   TREFOIL_RETURN_IF_ERROR(set.ReadSample(set.samples() - 1, tokens));
//
// The files are sorted by path. With T = sequence_length, sample i is tokens [i T, i T + T + 1): T inputs and, moved by
// one, T targets; the last target of a sample is the first input of the next. There are n = (tokens - 1) / T samples; up
// to T tokens at the end go unused. A sample may span documents and files.
//
// Each .bin stays open: one file descriptor a file. Movable. Threads: const calls from any.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/tokens/token_file.h"
#include "runtime/status.h"

namespace trefoil {

// Prefixes of the token files that the globs match, sorted: what TokenSet::Open opens. A prefix that is no pattern is taken
// as it is, whether or not there are such files. A pattern that matches nothing is an error.
absl::StatusOr<std::vector<std::string>> MatchTokenFiles(const std::vector<std::string>& globs,
                                                         FileSystem& fs = FileSystem::Posix());

class TokenSet {
 public:
  // Each of `globs` is a prefix of token files or a shell pattern of prefixes ("corpus/train-*" finds
  // corpus/train-00000.idx), in both cases with or without .bin or .idx; a prefix whose pair is there is that pair even
  // where it has a pattern's characters. A file matched twice counts once. `vocabulary` and `sequence_length` are at
  // least 1.
  //
  // Failure: a pattern that matches nothing, a pair that token_file.h rejects, and fewer than sequence_length + 1
  // tokens in all.
  static absl::StatusOr<TokenSet> Open(const std::vector<std::string>& globs, int64_t sequence_length,
                                       int64_t vocabulary, FileSystem& fs = FileSystem::Posix());

  int64_t samples() const { return (tokens() - 1) / sequence_length_; }
  int64_t tokens() const { return starts_.back(); }
  const std::vector<TokenFile>& files() const { return files_; }

  // Reads where the documents of all files begin, once: 8 bytes each. A file begins one. Failure: as
  // TokenFile::ForEachDocument.
  absl::Status FindDocuments(FileSystem& fs = FileSystem::Posix());
  // Of the T + 1 tokens of a sample, the token of the sample at which each one's document begins: 0 if that is before
  // the sample. After FindDocuments.
  void DocumentStarts(int64_t index, std::span<int32_t> starts) const;

  // Copies the T + 1 tokens of sample `index`, which is in [0, samples()).
  // Failure: a token id outside [0, vocabulary), with the file, the token's number in it, and the id; a file that cannot
  // be read or was changed since it was opened.
  absl::Status ReadSample(int64_t index, std::span<int32_t> out) const;

 private:
  TokenSet() = default;

  std::vector<TokenFile> files_;
  std::vector<int64_t> starts_;     // token number in the set where each file begins, then the total
  std::vector<int64_t> documents_;  // the same of documents that are not empty, once they are read
  int64_t sequence_length_ = 0;
  int64_t vocabulary_ = 0;
};

}  // namespace trefoil
