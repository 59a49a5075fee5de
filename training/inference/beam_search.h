// The likeliest texts, a token at a time, several beginnings of each in hand: beam search, for many texts at once.
//
//   const std::vector<int64_t> limits = {20, 35};                    // of tokens, for each text
//   const auto found = BeamSearch(limits, next, {.beam = 4, .length_penalty = 0.6, .end = tokenizer.end_of_text()});
//   found[1].front().ids;                                            // the best for the second
//
// A text Y of n tokens, the end among them, has the score (Wu et al., "Google's neural machine translation system",
// 2016, equation 14, without coverage)
//
//   log P(Y) / ((5 + n) / 6)^alpha
//
// Of each text up to `beam` beginnings are open. In a step each is followed by every token, and of all that come out
// the likeliest are open next; one that ends, and is among the `beam` likeliest, is kept instead. The search is over
// when as many have ended as the beam is wide (first come, first served: Kasai et al., "A call for clarity in beam
// search", 2022), or no open one can come to be among the `top` kept. So a beam of 1 is greedy decoding: the likeliest
// token each time.
//
// `next` is asked for the open ones of all texts in one call.
//
// Threads: pure but for `next`.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "training/inference/next_token.h"

namespace trefoil {

struct BeamOptions {
  int64_t beam = 4;
  int64_t top = 1;            // texts to give, at most `beam`
  double length_penalty = 0;  // alpha, not negative: 0 prefers short texts, 1 goes by the mean of a token
  int32_t end = 0;            // the token that ends a text
  int64_t vocabulary = 0;  // ids from here on are never written: a model may have room for more than there are. 0: all
  // What happens to one of as many tokens as its limit says: only the end may follow, or it is kept as it is.
  enum class AtLimit { kEnds, kIsCut } at_limit = AtLimit::kEnds;
};

struct Hypothesis {
  std::vector<int32_t> ids = {};  // without the end
  double log_probability = 0;     // of these, and of the end if it has ended
  double score = 0;
  bool ended = false;
};

// Of each text, the best first: `top`, or fewer if there are no more. `limits`: tokens without the end, at least 1
// each. A log-probability of -infinity forbids a token.
std::vector<std::vector<Hypothesis>> BeamSearch(std::span<const int64_t> limits, const NextToken& next,
                                                const BeamOptions& options);

}  // namespace trefoil
