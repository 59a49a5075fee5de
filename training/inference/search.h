// The likeliest texts that a model writes: of an encoder-decoder, which reads another text first, or of a network that
// goes on from a beginning.
//
//   const auto found = Translate(predictor, sources, {.beam = 4, .length_penalty = 0.6, .end = task.end_of_text()});
//   tokenizer.Decode(found[0].front().ids);
//
// Threads: one.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "training/inference/beam_search.h"
#include "training/inference/predictor.h"

namespace trefoil {

using Tokens = std::vector<int32_t>;

// A translation has so many tokens more than its source at most (as in Vaswani et al. 2017, section 6.1).
inline constexpr int64_t kTokensBeyondSource = 50;

// Sources of 1 to sequence_length - 1 tokens, without the end that the encoder reads behind them. What is written is no
// longer than the decoder can read, or than the source and kTokensBeyondSource; where `most_tokens` is not 0, than
// these instead of that.
std::vector<std::vector<Hypothesis>> Translate(Predictor& predictor, std::span<const Tokens> sources,
                                               const BeamOptions& options, int64_t most_tokens = 0);

// What comes behind each beginning, which has one token at least: `most_tokens` at most.
std::vector<std::vector<Hypothesis>> Continue(Predictor& predictor, std::span<const Tokens> beginnings,
                                              const BeamOptions& options, int64_t most_tokens);

}  // namespace trefoil
