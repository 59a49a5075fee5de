#include "data/data_rules.h"

#include <cmath>

#include "data/tokens/mixture.h"

namespace trefoil {
namespace {

void CheckWeights(const DataConfig& data, Rules& rules) {
  if (data.weights().empty()) return;
  if (data.weights_size() != data.train_size()) {
    rules.Bad("data.weights",
              absl::StrCat(data.weights_size(), " of them, must be one for each entry of data.train, which has ",
                           data.train_size(), "; nearest legal: ", data.train_size(), ", or none"));
    return;
  }
  double sum = 0;
  for (int i = 0; i < data.weights_size(); ++i) {
    const double weight = data.weights(i);
    sum += weight;
    if (std::isfinite(weight) && weight > 0) continue;
    rules.Bad(absl::StrCat("data.weights[", i, "]"),
              absl::StrCat(weight, ", must be a finite number above 0; nearest legal: leave ", data.train(i), " out"));
    return;
  }
  for (int i = 0; i < data.weights_size(); ++i) {
    if (data.weights(i) >= Mixture::kLeastShare * sum) continue;
    rules.Bad(absl::StrCat("data.weights[", i, "]"),
              absl::StrCat(data.weights(i), ", must be at least ", Mixture::kLeastShare, " of their sum ", sum,
                           "; nearest legal: ", Mixture::kLeastShare * sum));
  }
}

}  // namespace

void CheckData(const DataConfig& data, Rules& rules) {
  if (data.train().empty()) {
    rules.Bad("data.train", "empty, must name token files by prefix; for example: train: \"corpus/train-*\"");
  }
  for (int i = 0; i < data.train_size(); ++i) {
    if (data.train(i).empty()) {
      rules.Bad(absl::StrCat("data.train[", i, "]"), "empty, must name token files; remove it");
    }
  }
  for (int i = 0; i < data.held_out_size(); ++i) {
    if (data.held_out(i).empty()) {
      rules.Bad(absl::StrCat("data.held_out[", i, "]"), "empty, must name token files; remove it");
    }
  }
  CheckWeights(data, rules);
}

}  // namespace trefoil
