// What comes next: beginnings of texts, and the probability of each token behind each of them. What predictors say
// (training/inference/predictor.h) and searches ask for (training/inference/beam_search.h).
//
// Threads: plain values.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace trefoil {

// Rows of numbers.
struct Rows {
  int64_t columns = 0;
  std::vector<float> values = {};

  int64_t count() const { return columns == 0 ? 0 : static_cast<int64_t>(values.size()) / columns; }
  std::span<const float> operator[](int64_t row) const {
    return std::span(values).subspan(static_cast<size_t>(row * columns), static_cast<size_t>(columns));
  }
};

// The tokens that there are so far of one of several texts.
struct Prefix {
  int64_t text = 0;  // which
  std::span<const int32_t> ids;
};

// The log-probabilities [prefixes, V] of the token behind each prefix.
using NextToken = std::function<Rows(std::span<const Prefix> prefixes)>;

}  // namespace trefoil
