// Ids that a task puts between the tokens of texts.
//
//   const SpecialTokens special = EncoderTokens(tokenizer.end_of_text(), tokenizer.vocabulary());
//   // An encoder reads [begin] text [separator]; its vocabulary is the tokenizer's and kEncoderTokens more.
//
// A tokenizer trained here has one symbol, the end of text, and no id to spare: BERT's [CLS], [SEP] and [MASK] (Devlin
// et al. 2019) and T5's sentinels (Raffel et al. 2020) then get the ids right behind its vocabulary V. So token files
// and tokenizer are the same for every task, no text can spell a special token, and the ids of text are below V as
// ever. A vocabulary that has them of old (BERT's) names its own ids in the struct.
//
// A plain value.
#pragma once

#include <cstdint>

namespace trefoil {

struct SpecialTokens {
  int32_t padding = 0;         // behind a text, and the first token that a decoder reads: the tokenizer's end of text
  int32_t begin = -1;          // [CLS]. -1 here and below: the task has none
  int32_t separator = -1;      // [SEP]
  int32_t mask = -1;           // [MASK]
  int32_t first_sentinel = -1;  // sentinel i of a text is first_sentinel + i
};

// How many ids EncoderTokens adds to the vocabulary. SentinelTokens adds one a span (data/tasks/span_corruption.h).
inline constexpr int64_t kEncoderTokens = 3;

// As many sentinels as T5 has.
inline constexpr int64_t kSentinels = 100;

// Of an encoder: begin V, separator V + 1, mask V + 2.
inline SpecialTokens EncoderTokens(int32_t end_of_text, int64_t vocabulary) {
  const auto v = static_cast<int32_t>(vocabulary);
  return {.padding = end_of_text, .begin = v, .separator = v + 1, .mask = v + 2};
}

// Of span corruption: sentinel i is V + i.
inline SpecialTokens SentinelTokens(int32_t end_of_text, int64_t vocabulary) {
  return {.padding = end_of_text, .first_sentinel = static_cast<int32_t>(vocabulary)};
}

}  // namespace trefoil
