#include "training/inference/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "runtime/random.h"

namespace trefoil {

namespace {

// Tokens from the likeliest down, sorted as far as somebody has asked.
class Likeliest {
 public:
  explicit Likeliest(std::span<const float> logits) : logits_(logits), order_(logits.size()) {
    std::iota(order_.begin(), order_.end(), 0);
  }
  int32_t operator[](size_t rank) {
    while (rank >= sorted_) {
      const size_t more = std::min(order_.size(), std::max<size_t>(64, 4 * sorted_));
      const auto at = [&](size_t i) { return order_.begin() + static_cast<ptrdiff_t>(i); };
      std::partial_sort(at(sorted_), at(more), order_.end(), [&](int32_t a, int32_t b) {
        const float x = logits_[static_cast<size_t>(a)], y = logits_[static_cast<size_t>(b)];
        return x != y ? x > y : a < b;
      });
      sorted_ = more;
    }
    return order_[rank];
  }

 private:
  const std::span<const float> logits_;
  std::vector<int32_t> order_;
  size_t sorted_ = 0;
};

}  // namespace

int32_t ChooseToken(std::span<const float> logits, const Sampling& sampling, uint64_t seed, uint64_t position) {
  const auto best = std::max_element(logits.begin(), logits.end());
  if (sampling.temperature == 0) return static_cast<int32_t>(best - logits.begin());
  const double highest = *best;
  const auto weight = [&](int32_t token) {
    return std::exp((logits[static_cast<size_t>(token)] - highest) / sampling.temperature);
  };
  Likeliest likeliest(logits);
  const size_t most =
      sampling.top_k > 0 ? std::min(logits.size(), static_cast<size_t>(sampling.top_k)) : logits.size();
  double total = 0;
  for (size_t i = 0; i < most; ++i) total += weight(sampling.top_k > 0 ? likeliest[i] : static_cast<int32_t>(i));
  double kept = sampling.top_p < 1 ? 0 : total;
  size_t count = sampling.top_p < 1 ? 0 : most;
  while (count < most && (count == 0 || kept < sampling.top_p * total)) kept += weight(likeliest[count++]);

  double left = Uniform(RandomKey(seed, "generate"), position) * kept;
  for (size_t i = 0; i < count; ++i) {
    left -= weight(likeliest[i]);
    if (left < 0) return likeliest[i];
  }
  return likeliest[count - 1];
}

}  // namespace trefoil
