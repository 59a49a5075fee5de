#include "training/inference/search.h"

#include <glog/logging.h>

#include <algorithm>

namespace trefoil {
namespace {

// Each source, the end and padding [B, longest].
Batch BatchOf(std::span<const Tokens> sources, int32_t end) {
  Batch batch = {.samples = static_cast<int64_t>(sources.size())};
  std::vector<int32_t> lengths;
  for (const Tokens& source : sources) {
    lengths.push_back(static_cast<int32_t>(source.size()) + 1);
    batch.length = std::max<int64_t>(batch.length, lengths.back());
  }
  std::vector<int32_t> inputs(static_cast<size_t>(batch.samples * batch.length), end);
  auto row = inputs.begin();
  for (const Tokens& source : sources) {
    std::copy(source.begin(), source.end(), row);
    row += batch.length;
  }
  batch.inputs = HostTensor(std::move(inputs), {batch.samples, batch.length});
  batch.lengths = HostTensor(std::move(lengths), {batch.samples});
  return batch;
}

// `next` of the prefixes with what comes before each of them.
Rows Behind(std::span<const Prefix> prefixes, const std::function<const Tokens&(int64_t text)>& before,
            const NextToken& next) {
  std::vector<Tokens> whole;
  for (const Prefix& prefix : prefixes) {
    whole.push_back(before(prefix.text));
    whole.back().insert(whole.back().end(), prefix.ids.begin(), prefix.ids.end());
  }
  std::vector<Prefix> longer(prefixes.begin(), prefixes.end());
  for (size_t i = 0; i < longer.size(); ++i) longer[i].ids = whole[i];
  return next(longer);
}

}  // namespace

std::vector<std::vector<Hypothesis>> Translate(Predictor& predictor, std::span<const Tokens> sources,
                                               const BeamOptions& options, int64_t most_tokens) {
  std::vector<int64_t> limits;
  for (const Tokens& source : sources) {
    const auto tokens = static_cast<int64_t>(source.size());
    CHECK(tokens >= 1 && tokens < predictor.model().sequence_length()) << tokens;
    limits.push_back(std::min<int64_t>(predictor.model().decoder_length() - 1,
                                       most_tokens > 0 ? most_tokens : tokens + kTokensBeyondSource));
  }
  if (sources.empty()) return {};
  const Predictor::Memory memory = predictor.Encode(BatchOf(sources, options.end));
  const Tokens first = {options.end};
  const auto before = [&](int64_t) -> const Tokens& { return first; };
  const NextToken next = [&](std::span<const Prefix> prefixes) { return predictor.Next(memory, prefixes); };
  return BeamSearch(
      limits, [&](std::span<const Prefix> prefixes) { return Behind(prefixes, before, next); }, options);
}

std::vector<std::vector<Hypothesis>> Continue(Predictor& predictor, std::span<const Tokens> beginnings,
                                              const BeamOptions& options, int64_t most_tokens) {
  const std::vector<int64_t> limits(beginnings.size(), most_tokens);
  const auto before = [&](int64_t text) -> const Tokens& { return beginnings[static_cast<size_t>(text)]; };
  const NextToken next = [&](std::span<const Prefix> prefixes) { return predictor.Next(prefixes); };
  return BeamSearch(
      limits, [&](std::span<const Prefix> prefixes) { return Behind(prefixes, before, next); }, options);
}

}  // namespace trefoil
