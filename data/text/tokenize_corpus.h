// Text files to token files: the work of `trefoil tokenize`, one share of it or all.
//
//   CorpusOptions options = {.inputs = {"text/*.txt"}, .held_out = 0.05};
//   TREFOIL_ASSIGN_OR_RETURN(CorpusPlan plan, PlanCorpus(options));
//   TREFOIL_ASSIGN_OR_RETURN(auto texts, SampleTexts(plan, 32 << 20, progress));
//   TREFOIL_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Train(texts, 4096));
//   TREFOIL_ASSIGN_OR_RETURN(CorpusCounts counts, TokenizeShare(fs, plan, folder, tokenizer, rank, ranks, progress));
//
// What is written: for each shard s of the plan, folder/train-SSSSS.{bin,idx} and folder/held_out-SSSSS.{bin,idx}; a
// file without tokens is left out, and one that outgrows `file_tokens` goes on in train-SSSSS-001 and so on. Documents
// end with the tokenizer's end of text. Shares take whole shards, so the files are the same, byte for byte, for any
// number of shares.
//
// Held-out text is chosen by block (data/text/corpus.h), so that a corpus of a few long files has some too: of the
// blocks of a slice, number b is held out when floor((b + 1) h + u) > floor(b h + u), where h is the share to hold out
// and u in [0, 1) a hash of (seed, slice number). That is every 1/h-th block, begun anywhere: each long file gives its
// share to within a block, and each short one with probability h. Neighbouring blocks of one document that go to the
// same side stay one document; where the side changes the document ends. The choice depends on the files, the seed and
// h only.
//
// Memory: a few MB, the tokenizer, and 4 bytes per document of a shard; for SampleTexts up to twice the bytes asked
// for.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/text/corpus.h"
#include "data/tokens/tokenizer.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

struct CorpusOptions {
  std::vector<std::string> inputs;  // as in ExpandInputs
  double held_out = 0.05;           // in [0, 0.5]
  uint64_t seed = 1;                // of the choice of held-out text
  int64_t shard_bytes = 0;          // input per shard; 0: 32 MiB, or more to make at most 1024 shards
  int64_t file_tokens = int64_t{1} << 29;
  bool any_bytes = false;           // takes what is not text too (data/text/text_check.h)
};

struct CorpusPlan {
  CorpusOptions options;
  std::vector<std::string> paths;
  std::vector<TextSlice> slices;
  std::vector<int64_t> shards;  // shard s is slices [shards[s], shards[s + 1])
  int64_t block_bytes = 0;      // about 1/400 of the input, between 1 and 16 KiB
  int64_t bytes = 0;            // of all files, as stored

  int64_t shard_count() const { return static_cast<int64_t>(shards.size()) - 1; }
  // Whether block number `block` of a slice is held out.
  bool IsHeldOut(int64_t slice, int64_t block) const;
};

// Failure: inputs that match nothing, held_out out of range, input without a byte ("zero-length corpus").
absl::StatusOr<CorpusPlan> PlanCorpus(const CorpusOptions& options);

// Told the number of input bytes (as stored) done since the last call.
using CorpusProgress = std::function<void(int64_t bytes)>;

// Turns the share of a slice that is done into those. The progress outlives it.
class SliceProgress {
 public:
  SliceProgress(const TextSlice& slice, const CorpusProgress& progress) : bytes_(slice.bytes()), progress_(progress) {}
  void Update(double done) {
    const int64_t now = static_cast<int64_t>(done * static_cast<double>(bytes_));
    if (now > reported_) progress_(now - std::exchange(reported_, now));
  }

 private:
  const int64_t bytes_;
  const CorpusProgress& progress_;
  int64_t reported_ = 0;
};

// Calls use(text, hash) for every block of the text that is not held out, in one order; hash is a random number of the block's.
// Reads all input.
absl::Status ForEachTrainingBlock(const CorpusPlan& plan, const CorpusProgress& progress,
                                  const std::function<void(std::string_view text, uint64_t hash)>& use);

// A sample of the text that is not held out, about `bytes` of it or all if there is less: blocks chosen by a hash, so
// that it represents the whole. Reads all input.
absl::StatusOr<std::vector<std::string>> SampleTexts(const CorpusPlan& plan, int64_t bytes,
                                                     const CorpusProgress& progress);

struct CorpusCounts {
  int64_t documents = 0;     // of the input
  int64_t text_bytes = 0;    // of the input, decompressed, without what surrounds the text in .jsonl
  int64_t bad_bytes = 0;     // of these, that are not UTF-8
  int64_t train_tokens = 0;  // end-of-text tokens included
  int64_t held_out_tokens = 0;
  int64_t train_files = 0;  // pairs
  int64_t held_out_files = 0;
};

// Does shards share, share + shares, share + 2 shares ...; `folder` exists. On failure, finished shards are left.
absl::StatusOr<CorpusCounts> TokenizeShare(FileSystem& fs, const CorpusPlan& plan, const std::string& folder,
                                           Tokenizer& tokenizer, int share, int shares, const CorpusProgress& progress);

}  // namespace trefoil
