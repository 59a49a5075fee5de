// A token drawn from what a network says of the next one.
//
//   int32_t next = ChooseToken(rows[0], {.temperature = 0.8f, .top_k = 40}, seed, position);
//
// Threads: pure function.
#pragma once

#include <cstdint>
#include <span>

namespace trefoil {

struct Sampling {
  float temperature = 1;  // logits are divided by it; 0: always the likeliest token
  int32_t top_k = 0;      // only the k likeliest; 0: all
  float top_p = 1;        // only the likeliest that together have this probability (Holtzman et al. 2020)
};

// The token drawn at `position` of a text with `seed`: a function of its arguments. A constant added to all logits
// changes nothing: log-probabilities do as well.
int32_t ChooseToken(std::span<const float> logits, const Sampling& sampling, uint64_t seed, uint64_t position);

}  // namespace trefoil
