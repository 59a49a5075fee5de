#include "training/inference/open_texts.h"

#include <algorithm>
#include <utility>

namespace trefoil {

OpenTexts::OpenTexts(Predictor& predictor, int64_t texts, int64_t capacity)
    : predictor_(predictor), ids_(static_cast<size_t>(texts)) {
  if (KeptTexts::Serves(predictor.model())) {
    kept_.emplace(predictor, texts, std::min<int64_t>(capacity, predictor.model().sequence_length()));
  }
}

int64_t OpenTexts::Begin(int64_t text, std::span<const int32_t> ids) {
  const auto shared = [&](int64_t other) {
    const auto& there = ids_[static_cast<size_t>(other)];
    const auto most = std::min<int64_t>(Kept(other), std::ssize(ids) - 1);
    return std::mismatch(ids.begin(), ids.begin() + most, there.begin()).first - ids.begin();
  };
  int64_t best = text;
  for (int64_t other = 0; other < texts(); ++other) {
    if (shared(other) > shared(best)) best = other;
  }
  const int64_t length = shared(best);
  if (kept_.has_value()) {
    if (best != text) kept_->Copy(best, text);
    kept_->Truncate(text, length);
  }
  ids_[static_cast<size_t>(text)].assign(ids.begin(), ids.begin() + length);
  return length;
}

Rows OpenTexts::Extend(std::span<const Tokens> tokens) {
  std::vector<Tokens> behind_kept;
  std::vector<Prefix> whole;
  std::vector<bool> is_kept;
  for (const Tokens& each : tokens) {
    auto& ids = ids_[static_cast<size_t>(each.text)];
    const bool all_kept = kept_.has_value() && Kept(each.text) == std::ssize(ids);
    ids.insert(ids.end(), each.ids.begin(), each.ids.end());
    is_kept.push_back(all_kept && std::ssize(ids) <= kept_->capacity());
    if (is_kept.back()) {
      behind_kept.push_back(each);
    } else {
      whole.push_back({.text = each.text, .ids = ids});
    }
  }
  if (whole.empty()) return kept_->Extend(behind_kept);
  Rows of_whole = predictor_.Next(whole);
  if (behind_kept.empty()) return of_whole;
  const Rows of_kept = kept_->Extend(behind_kept);
  Rows rows = {.columns = of_kept.columns, .values = {}};
  int64_t next_kept = 0, next_whole = 0;
  for (const bool kept : is_kept) {
    const std::span<const float> row = kept ? of_kept[next_kept++] : of_whole[next_whole++];
    rows.values.insert(rows.values.end(), row.begin(), row.end());
  }
  return rows;
}

}  // namespace trefoil
