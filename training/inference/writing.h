// Texts that a model writes, a token at a time, as many at once as there is room for: where one ends the next begins.
//
//   OpenTexts texts(predictor, /*texts=*/8, /*capacity=*/512);
//   const std::vector<TextToWrite> wanted = {{.prompt = ids, .most_tokens = 100, .sampling = {.temperature = 0}}, ...};
//   const WritingTimes times = WriteTexts(texts, wanted, {.ends = {0}, .vocabulary = 4096}, on_token, on_end);
//
// What is chosen for a text depends on its prompt, sampling and seed only, but for rounding: not on what is written beside
// it.
//
// Threads: one. All ranks of a copy of the predictor make the same calls and choose the same tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "training/inference/open_texts.h"
#include "training/inference/sampling.h"

namespace trefoil {

struct TextToWrite {
  std::vector<int32_t> prompt;  // one token at least
  int64_t most_tokens = 0;      // to write
  Sampling sampling = {};
  uint64_t seed = 0;
};

struct WritingOptions {
  std::vector<int32_t> ends;  // tokens that end a text
  int64_t vocabulary = 0;     // ids from here on are never written: a model may have room for more than there are. 0: all
};

enum class TextEnd {
  kEnd,      // the model said so
  kStopped,  // `on_token` said so
  kLimit,    // as many tokens as were wanted
};

// What was done, and how long it took: passes that read prompts, and what was written meanwhile, are apart.
struct WritingTimes {
  int64_t prompt_tokens = 0, written_tokens = 0;  // those read, without beginnings that were there; and behind them
  double prompt_seconds = 0, written_seconds = 0;
};

// on_token: of each token as it is chosen, but for those that end a text; false: its text ends with it. on_end: of each
// text once. Both with the text's number in `wanted`.
WritingTimes WriteTexts(OpenTexts& texts, std::span<const TextToWrite> wanted, const WritingOptions& options,
                        const std::function<bool(size_t text, int32_t id)>& on_token,
                        const std::function<void(size_t text, TextEnd end)>& on_end);

}  // namespace trefoil
