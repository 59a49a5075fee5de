// Texts with spans cut out, which an encoder-decoder is to write: span corruption (Raffel et al., "Exploring the limits
// of transfer learning with a unified text-to-text transformer", JMLR 21, 2020, section 3.1.4; as t5's
// random_spans_noise_mask and random_spans_helper do it).
//
//   TREFOIL_ASSIGN_OR_RETURN(const SpanCounts counts, SpanLengths(/*inputs_length=*/512, SpanOptions{}));
//   // counts: 568 tokens of text become 512 of input and 114 of target
//   TREFOIL_ASSIGN_OR_RETURN(auto text, Loader::Open(globs, counts.text - 1, vocabulary, seed));
//   SpanCorruption samples(std::move(text), SentinelTokens(end_of_text, vocabulary), counts, seed);
//   TREFOIL_ASSIGN_OR_RETURN(Batch batch, samples.Get(/*first_sample=*/0, /*count=*/8));
//
// A text of n tokens is cut into kept and lost spans in turn, a kept one first, as many of the one as of the other. Its
// rate * n lost tokens are divided among the lost spans at random, each division into spans of at least one token as
// likely as any other, and likewise the kept tokens among the kept. With `end` the end of text:
//
//   text             a b c d e f g h                      lost: c d, h
//   inputs [B, T]    a b <0> e f g <1> end                <i>: sentinel i
//   targets [B, D]   <0> c d <1> h end
//   decoder_inputs   end <0> c d <1> h                    the targets moved by one
//
// All lengths are the same in every sample, so that there is no padding. The model's vocabulary is the tokenizer's and
// counts.spans more. The cut is a function of (seed, number of the sample in the run), frozen by a test.
//
// Threads: const calls from any.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/samples.h"
#include "data/tasks/draws.h"
#include "data/tasks/special_tokens.h"
#include "data/tokens/loader.h"

namespace trefoil {

struct SpanOptions {
  double rate = 0.15;    // of the text's tokens that are lost, in (0, 0.9]
  double mean_span = 3;  // tokens of a lost span on average, at least 1
};

struct SpanCounts {
  int64_t text = 0;     // n: tokens of a sample's text
  int64_t inputs = 0;   // T: kept tokens, sentinels, end
  int64_t targets = 0;  // D: lost tokens, sentinels, end
  int64_t lost = 0;     // round(rate n), halves to the even number; at least 1 and at most n - 1
  int64_t spans = 0;    // round(lost / mean_span), likewise; at least 1
  bool operator==(const SpanCounts&) const = default;
};

// The longest text whose input has `inputs_length` tokens.
// Failure: lengths below 3; options out of range, or spans that the kept tokens are too few to keep apart.
absl::StatusOr<SpanCounts> SpanLengths(int64_t inputs_length, const SpanOptions& options);

class SpanCorruption : public Samples {
 public:
  // The loader's sequence_length is counts.text - 1: such a sample has counts.text tokens.
  SpanCorruption(std::unique_ptr<const Loader> text, const SpecialTokens& special, const SpanCounts& counts,
                 uint64_t seed);

  const Loader& text() const { return *text_; }
  const SpanCounts& counts() const { return counts_; }
  int64_t samples() const override { return text_->samples(); }
  // Failure: as Loader::Get.
  absl::StatusOr<Batch> Get(int64_t first_sample, int64_t count) const override;

 private:
  const std::unique_ptr<const Loader> text_;
  const SpecialTokens special_;
  const SpanCounts counts_;
  const uint64_t key_;
};

}  // namespace trefoil
