// Token files to batches.
//
//   TREFOIL_ASSIGN_OR_RETURN(auto loader, Loader::Open({"corpus/train-*"}, /*sequence_length=*/256, vocabulary, seed));
//   TREFOIL_ASSIGN_OR_RETURN(Batch batch, loader->Get(/*first_sample=*/step * 32 + rank * 8, /*count=*/8));
//
// The data set is the concatenated tokens of all matched files, sorted by path. With T = sequence_length its sample i
// is tokens [i T, i T + T + 1): T inputs and, moved by one, T targets; the last target of a sample is the first input
// of the next. There are n = (tokens - 1) / T samples; up to T tokens at the end go unused. A sample may span documents
// and files.
//
// Which sample of the data set is number k of the run is arithmetic (data/sampler.h): Get is a pure function of the
// files, the seed and its arguments, so ranks that ask for different rows need not talk, and resuming needs no state.
//
// Threads: const calls from any. Batches are copies; the loader may go before them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/batch.h"
#include "data/sampler.h"
#include "data/token_file.h"
#include "runtime/status.h"

namespace trefoil {

// Prefixes of the token files that the globs match, sorted: what Open opens. A prefix that is no pattern is taken as it is,
// whether or not there are such files. A pattern that matches nothing is an error.
absl::StatusOr<std::vector<std::string>> MatchTokenFiles(const std::vector<std::string>& globs);

class Loader {
 public:
  // Each of `globs` is a prefix of token files or a shell pattern of prefixes ("corpus/train-*" finds
  // corpus/train-00000.idx); a file matched twice counts once. `vocabulary` and `sequence_length` are at least 1.
  //
  // Failure: a pattern that matches nothing, a pair that token_file.h rejects, and fewer than sequence_length + 1
  // tokens in all.
  static absl::StatusOr<std::unique_ptr<Loader>> Open(const std::vector<std::string>& globs, int64_t sequence_length,
                                                      int64_t vocabulary, uint64_t seed);

  // Samples in the data set: one epoch of the run.
  int64_t samples() const { return sampler_.size(); }
  int64_t tokens() const { return starts_.back(); }
  int64_t sequence_length() const { return sequence_length_; }
  const std::vector<TokenFile>& files() const { return files_; }

  // Samples [first_sample, first_sample + count) of the run, any first_sample >= 0.
  // Failure: a token id outside [0, vocabulary); the message has the file, the token's number in it, and the id.
  absl::StatusOr<Batch> Get(int64_t first_sample, int64_t count) const;

  // Samples [first, first + count) of the data set in its own order, for evaluation. They must exist: first + count <=
  // samples(). Batch.first_sample is `first`.
  absl::StatusOr<Batch> GetInOrder(int64_t first, int64_t count) const;

  // Entropy in nats of one token drawn from the whole data set: the cross-entropy of the best model that ignores
  // context, which a trained model must beat. Reads every token.
  absl::StatusOr<double> UnigramEntropy() const;

 private:
  Loader(std::vector<TokenFile> files, std::vector<int64_t> starts, int64_t sequence_length, int64_t vocabulary,
         uint64_t seed);
  // Copies tokens [begin, begin + out.size()) of the data set and checks them.
  absl::Status Read(int64_t begin, std::span<int32_t> out) const;
  absl::Status ReadSample(int64_t index, std::span<int32_t> scratch, int64_t row, Batch* batch) const;

  std::vector<TokenFile> files_;
  std::vector<int64_t> starts_;  // token number in the data set where each file begins, then the total
  int64_t sequence_length_;
  int64_t vocabulary_;
  Sampler sampler_;
};

}  // namespace trefoil
