#include "data/tokens/mixture.h"

#include <glog/logging.h>

#include <algorithm>
#include <numeric>

namespace trefoil {

Mixture::Mixture(const std::vector<double>& weights) {
  CHECK(!weights.empty());
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (const double weight : weights) CHECK(weight > 0 && weight >= kLeastShare * sum) << weight << " of " << sum;
  period_counts_.resize(weights.size());
  if (weights.size() == 1) {
    period_counts_[0] = kPeriod;
    return;
  }
  choices_.reserve(kPeriod);
  for (int64_t k = 1; k <= kPeriod; ++k) {
    size_t source = 0;
    double most = -1e300;
    for (size_t i = 0; i < weights.size(); ++i) {
      const double below = weights[i] / sum * static_cast<double>(k) - static_cast<double>(period_counts_[i]);
      if (below > most) {
        most = below;
        source = i;
      }
    }
    choices_.push_back({static_cast<int32_t>(source), static_cast<int32_t>(period_counts_[source]++)});
  }
}

Mixture::Place Mixture::At(int64_t k) const {
  CHECK_GE(k, 0);
  if (choices_.empty()) return {.source = 0, .number = k};
  const Choice choice = choices_[static_cast<size_t>(k % kPeriod)];
  return {.source = choice.source,
          .number = k / kPeriod * period_counts_[static_cast<size_t>(choice.source)] + choice.number};
}

int64_t Mixture::CountBefore(int source, int64_t k) const {
  if (choices_.empty()) return k;
  const auto in_period = std::count_if(choices_.begin(), choices_.begin() + k % kPeriod,
                                       [&](const Choice& choice) { return choice.source == source; });
  return k / kPeriod * period_counts_[static_cast<size_t>(source)] + in_period;
}

}  // namespace trefoil
