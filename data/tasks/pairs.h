// Sentences and their translations: what an encoder-decoder is trained on (Vaswani et al., "Attention is all you need",
// NeurIPS 2017).
//
//   TREFOIL_ASSIGN_OR_RETURN(RecordSet records, RecordSet::Open({"wmt14/train-*"}));     // of {source, target}
//   TREFOIL_ASSIGN_OR_RETURN(auto pairs, Pairs::Open(std::move(records), tokenizer.end_of_text(),
//                                                    {.inputs_length = 128, .decoder_length = 128, .batch = 512},
//                                                    seed));
//   TREFOIL_ASSIGN_OR_RETURN(Batch batch, pairs->Get(/*first_sample=*/0, /*count=*/8));
//
// With `end` the end of text, which is the padding too, a sample of s source and t target tokens is
//
//   inputs [B, T]           source end padding ...   lengths [B]: s + 1
//   decoder_inputs [B, D]   end target padding ...
//   targets [B, D]          target end padding ...   weights [B, D]: 1 for the t + 1 first, else 0
//
// A pair of more than T - 1 or D - 1 tokens is dropped when the records are opened, not cut: the half of a sentence has
// another translation. Samples come in the order of data/tasks/length_order.h, by the longer of the two lengths.
//
// Batches are padded to T and D, so that all have one shape; with `shorten` on to what Lengths says of them.
//
// Threads: const calls from any.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/records/record_set.h"
#include "data/samples.h"
#include "data/tasks/length_order.h"

namespace trefoil {

struct PairOptions {
  int64_t inputs_length = 0;   // T, at least 2
  int64_t decoder_length = 0;  // D, at least 2
  int64_t batch = 1;           // samples of a step, which are to be of similar length
  Shortening shorten = {};     // of both lengths
};

class Pairs : public Samples {
 public:
  // Failure: records of other parts; all are too long.
  static absl::StatusOr<std::unique_ptr<Pairs>> Open(RecordSet records, int32_t end_of_text, const PairOptions& options,
                                                     uint64_t seed);

  const RecordSet& records() const { return records_; }
  int64_t samples() const override { return static_cast<int64_t>(kept_.size()); }
  // Pairs that are too long.
  int64_t dropped() const { return records_.size() - samples(); }

  // Failure: as RecordSet::Read.
  absl::StatusOr<Batch> Get(int64_t first_sample, int64_t count) const override;
  bool weighted() const override { return true; }
  std::optional<SampleLengths> Lengths(int64_t first_sample, int64_t count) const override;

 private:
  Pairs(RecordSet records, std::vector<int64_t> kept, int32_t end_of_text, const PairOptions& options, uint64_t seed);
  int64_t RecordOf(int64_t sample) const { return kept_[static_cast<size_t>(order_.Index(sample))]; }

  const RecordSet records_;
  const std::vector<int64_t> kept_;  // records that are not too long
  const int32_t end_of_text_;
  const PairOptions options_;
  const LengthOrder order_;
};

}  // namespace trefoil
