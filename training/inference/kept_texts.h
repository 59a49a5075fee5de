// Texts that a decoder writes or reads on, a few tokens at a time, with the keys and values of what it has read kept
// (model/key_value_cache.h): only new tokens are computed.
//
//   KeptTexts texts(predictor, /*texts=*/2, /*capacity=*/256);
//   Rows next = texts.Extend({{{.text = 0, .ids = prompt}, {.text = 1, .ids = other_prompt}}});
//   next = texts.Extend({{{.text = 0, .ids = chosen}}});           // one token; text 1 stays as it is
//   texts.Truncate(0, 3);                                          // as if only the first three had been read
//
// Texts are of any lengths, and any numbers of tokens go in together: each is computed as it would be alone, but for
// rounding. They go through in pieces of kPieceTokens, so that long ones take no more memory.
//
// The layout is the predictor's: all ranks of a copy make the same calls and get the results.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/key_value_cache.h"
#include "training/inference/predictor.h"

namespace trefoil {

class KeptTexts {
 public:
  static constexpr int64_t kPieceTokens = 512;

  // Decoders, which see each token with those before it; not recurrent networks, nor those that read another text first.
  static bool Serves(const ModelConfig& model);
  // What `texts` of `capacity` tokens each take on a rank that has most of the layers.
  static int64_t Bytes(const ModelConfig& model, const InferenceLayout& layout, int64_t texts, int64_t capacity);

  // All begin empty. capacity: at most the model's sequence_length. The predictor outlives it.
  KeptTexts(Predictor& predictor, int64_t texts, int64_t capacity);

  int64_t texts() const { return static_cast<int64_t>(lengths_.size()); }
  int64_t capacity() const { return cache_.capacity(); }
  int64_t length(int64_t text) const { return lengths_[static_cast<size_t>(text)]; }

  // Tokens behind those of a text, at least one.
  struct Tokens {
    int64_t text = 0;
    std::span<const int32_t> ids;
  };
  // Of different texts, none longer than the capacity then. Log-probabilities [tokens, V] of what comes behind each.
  Rows Extend(std::span<const Tokens> tokens);
  // The same, and how likely certain tokens are: targets[i] are of tokens[i].ids, as many, each of the token behind that
  // one. One list, in that order.
  std::vector<TokenScore> Score(std::span<const Tokens> tokens, std::span<const std::span<const int32_t>> targets);

  // length: at most what it is.
  void Truncate(int64_t text, int64_t length);
  // `to` becomes what `from` is.
  void Copy(int64_t from, int64_t to);

 private:
  // A piece of what goes in: some tokens of some texts.
  struct Piece {
    std::vector<Continuation::Part> parts;
    std::vector<int32_t> ids;
    std::vector<bool> ends;  // of each part: whether what goes in of its text ends with it
  };
  std::vector<Piece> Cut(std::span<const Tokens> tokens) const;
  // Its micro-batch, and what comes before the head; `use` is called while both are there.
  template <typename Use>
  void Run(const Piece& piece, const Use& use);

  Predictor& predictor_;
  KeyValueCache cache_;
  std::vector<int64_t> lengths_;
};

}  // namespace trefoil
