// Token files to batches.
//
//   TREFOIL_ASSIGN_OR_RETURN(auto loader, Loader::Open({"corpus/train-*"}, /*sequence_length=*/256, vocabulary, seed));
//   TREFOIL_ASSIGN_OR_RETURN(Batch batch, loader->Get(/*first_sample=*/step * 32 + rank * 8, /*count=*/8));
//
// Without weights all matched files are one data set (data/tokens/token_set.h), whose samples come in the order of
// data/sampler.h: each once in an epoch. With weights each pattern is a source, a data set of its own;
// data/tokens/mixture.h says which source a sample of the run comes from, and the sources' samplers which of its
// samples that is. A source that is used up begins its next epoch, in another order, however far the others are.
//
// With `documents` batches say where each token's document begins, and the last token of each, whose next one belongs
// to another, has a target of weight 0.
//
// So Get is a pure function of the files, weights, seed and its arguments: ranks that ask for different rows need not
// talk, and resuming needs no state.
//
// Threads: const calls from any. Batches are copies; the loader may go before them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/batch.h"
#include "data/sampler.h"
#include "data/samples.h"
#include "data/tokens/mixture.h"
#include "data/tokens/token_set.h"
#include "runtime/status.h"

namespace trefoil {

class Loader : public Samples {
 public:
  // `weights`: none, or one for each of the globs, as data/tokens/mixture.h wants them.
  // Failure: as TokenSet::Open and FindDocuments; a file that two sources match.
  static absl::StatusOr<std::unique_ptr<Loader>> Open(const std::vector<std::string>& globs, int64_t sequence_length,
                                                      int64_t vocabulary, uint64_t seed,
                                                      const std::vector<double>& weights = {}, bool documents = false,
                                                      FileSystem& fs = FileSystem::Posix());

  struct Source {
    std::string glob;  // of all, with commas between, where there are no weights
    TokenSet set;
    Sampler sampler;
  };
  const std::vector<Source>& sources() const { return sources_; }
  // Of all sources, one after the other.
  std::vector<const TokenFile*> files() const;
  // Of all sources together.
  int64_t samples() const override;
  int64_t tokens() const;
  int64_t sequence_length() const { return sequence_length_; }
  // How often the first `samples` samples of the run go through a source: 1.5 is once and half of it again.
  double Epochs(int source, int64_t samples) const;

  // Failure: as TokenSet::ReadSample.
  absl::StatusOr<Batch> Get(int64_t first_sample, int64_t count) const override;
  bool weighted() const override { return documents_; }
  // Copies the sequence_length + 1 tokens of one sample of the run.
  absl::Status ReadSample(int64_t sample, std::span<int32_t> tokens) const;

  // Adds to counts[id] how often `id` is a target in samples [first_sample, first_sample + count) of the run.
  absl::Status CountTargets(int64_t first_sample, int64_t count, std::span<int64_t> counts) const;

 private:
  Loader(std::vector<Source> sources, Mixture mixture, int64_t sequence_length, bool documents);
  void AddDocuments(Batch* batch) const;

  std::vector<Source> sources_;
  Mixture mixture_;
  int64_t sequence_length_;
  bool documents_;
};

// Entropy in nats of a token drawn from what was counted: the cross-entropy of the best model that ignores context,
// which a trained model must beat. 0 for no counts.
double Entropy(std::span<const int64_t> counts);

}  // namespace trefoil
