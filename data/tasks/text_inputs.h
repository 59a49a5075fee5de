// What an encoder reads of a text, or of two that belong together (Devlin et al. 2019, figure 2), padded to T tokens:
//
//   inputs [B, T]     [begin] text [separator]   or   [begin] text [separator] text_pair [separator]
//   segments [B, T]   0 up to the first separator, that included, 1 behind it, 0 for padding
//   lengths [B]       tokens that are no padding
//
//   const std::vector<TextPair> texts = {{.text = ids}};
//   const Batch batch = TextInputs(texts, EncoderTokens(end_of_text, vocabulary), /*length=*/128);
//
// A text that is too long is cut at its end; of two that are, the longer one token after the other, the second of
// equals.
//
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <span>

#include "data/batch.h"
#include "data/tasks/special_tokens.h"

namespace trefoil {

// `pair` is empty where there is no second text.
struct TextPair {
  std::span<const int32_t> text, pair;
};

// Tokens of each text.
struct TextLengths {
  int64_t text = 0, pair = 0;  // 0: there is none
  bool operator==(const TextLengths&) const = default;
  // With the special tokens.
  int64_t whole() const { return text + pair + (pair > 0 ? 3 : 2); }
};

// What is kept of texts of such lengths where T = `length`, which has room for a token of each.
TextLengths Kept(const TextLengths& lengths, int64_t length);

// The batch's inputs, segments and lengths.
Batch TextInputs(std::span<const TextPair> texts, const SpecialTokens& special, int64_t length);

}  // namespace trefoil
