// Texts that are read and written on, of any network that writes from left to right: what has been read is kept where the
// network can (training/inference/kept_texts.h), and read anew where it cannot, or where a text is longer than the model's
// context, of which the last sequence_length tokens count then.
//
//   OpenTexts texts(predictor, /*texts=*/2, /*capacity=*/256);
//   const int64_t there = texts.Begin(0, prompt);                  // a beginning that another text shares is not read again
//   Rows next = texts.Extend({{{.text = 0, .ids = prompt.subspan(there)}}});
//
// Threads: one. All ranks of a copy of the predictor make the same calls.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "training/inference/kept_texts.h"

namespace trefoil {

class OpenTexts {
 public:
  using Tokens = KeptTexts::Tokens;

  // capacity: tokens that are kept of each, at most the model's sequence_length; longer ones are read anew. The predictor
  // outlives it.
  OpenTexts(Predictor& predictor, int64_t texts, int64_t capacity);

  int64_t texts() const { return static_cast<int64_t>(ids_.size()); }
  std::span<const int32_t> ids(int64_t text) const { return ids_[static_cast<size_t>(text)]; }

  // The text becomes the beginning of `ids` that it shares with what is there, or that another text shares with them, if
  // that is longer: not all of them, so that there is one to be read. How many that are.
  int64_t Begin(int64_t text, std::span<const int32_t> ids);
  // Tokens behind those of different texts. Log-probabilities [tokens, V] of what comes behind each.
  Rows Extend(std::span<const Tokens> tokens);

 private:
  // Tokens of a text that are kept.
  int64_t Kept(int64_t text) const { return kept_.has_value() ? kept_->length(text) : 0; }

  Predictor& predictor_;
  std::optional<KeptTexts> kept_;
  std::vector<std::vector<int32_t>> ids_;  // of which the first Kept are
};

}  // namespace trefoil
