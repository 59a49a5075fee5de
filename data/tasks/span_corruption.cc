#include "data/tasks/span_corruption.h"

#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

namespace trefoil {
namespace {

// To the nearest, halves to the even, as Python's round does: t5's lengths are so.
int64_t Round(double x) { return static_cast<int64_t>(std::nearbyint(x)); }

SpanCounts CountsOf(int64_t text, const SpanOptions& options) {
  SpanCounts counts{.text = text};
  counts.lost = std::clamp<int64_t>(Round(static_cast<double>(text) * options.rate), 1, text - 1);
  counts.spans = std::max<int64_t>(1, Round(static_cast<double>(counts.lost) / options.mean_span));
  counts.inputs = text - counts.lost + counts.spans + 1;
  counts.targets = counts.lost + counts.spans + 1;
  return counts;
}

// Lengths of `parts` parts, at least 1 each, that make `items`.
std::vector<int64_t> Divide(int64_t items, int64_t parts, Draws& draws) {
  std::vector<int64_t> ends = draws.Choose(parts - 1, items - 1);  // a part ends behind these items
  std::sort(ends.begin(), ends.end());
  ends.push_back(items - 1);
  for (size_t part = ends.size() - 1; part > 0; --part) ends[part] -= ends[part - 1];
  ++ends[0];
  return ends;
}

}  // namespace

absl::StatusOr<SpanCounts> SpanLengths(int64_t inputs_length, const SpanOptions& options) {
  if (!(options.rate > 0 && options.rate <= 0.9)) {
    return absl::InvalidArgumentError(
        absl::StrCat("rate of lost tokens: ", options.rate, " is outside (0, 0.9]; T5's is 0.15"));
  }
  if (!(options.mean_span >= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("mean span: ", options.mean_span, " is below 1; T5's is 3"));
  }
  if (inputs_length < 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("inputs of ", inputs_length, " tokens hold no kept token, sentinel and end of text; at least 3"));
  }
  // A token more of text is one more that is kept, or one more that is lost and perhaps a span more: the input becomes
  // longer by 0 or 1, so that every length is met.
  SpanCounts counts = CountsOf(2, options);
  for (int64_t text = 3;; ++text) {
    const SpanCounts next = CountsOf(text, options);
    if (next.inputs > inputs_length) break;
    counts = next;
  }
  if (counts.spans > counts.text - counts.lost) {
    return absl::InvalidArgumentError(absl::StrCat("rate of lost tokens: ", options.rate, " leaves ",
                                                   counts.text - counts.lost, " of ", counts.text, " tokens between ",
                                                   counts.spans, " spans of ", options.mean_span,
                                                   "; at least one each is needed: a lower rate or longer spans"));
  }
  CHECK_EQ(counts.inputs, inputs_length);
  return counts;
}

SpanCorruption::SpanCorruption(std::unique_ptr<const Loader> text, const SpecialTokens& special,
                               const SpanCounts& counts, uint64_t seed)
    : text_(std::move(text)), special_(special), counts_(counts), key_(RandomKey(seed, "span_corruption")) {
  CHECK_EQ(text_->sequence_length() + 1, counts.text);
  CHECK_GE(special.first_sentinel, 0);
}

absl::StatusOr<Batch> SpanCorruption::Get(int64_t first_sample, int64_t count) const {
  Batch batch{.samples = count, .length = counts_.inputs, .first_sample = first_sample};
  batch.inputs = HostTensor::Zeros(DType::kInt32, {count, counts_.inputs});
  batch.targets = batch.decoder_inputs = HostTensor::Zeros(DType::kInt32, {count, counts_.targets});
  std::vector<int32_t> text(static_cast<size_t>(counts_.text));
  for (int64_t row = 0; row < count; ++row) {
    TREFOIL_RETURN_IF_ERROR(text_->ReadSample(first_sample + row, text));
    Draws draws(key_, first_sample + row);
    const std::vector<int64_t> lost = Divide(counts_.lost, counts_.spans, draws);
    const std::vector<int64_t> kept = Divide(counts_.text - counts_.lost, counts_.spans, draws);
    const auto targets = batch.targets.values<int32_t>().begin() + row * counts_.targets;
    auto input = batch.inputs.values<int32_t>().begin() + row * counts_.inputs, target = targets;
    auto from = text.begin();
    for (size_t i = 0; i < kept.size(); ++i) {
      const int32_t sentinel = special_.first_sentinel + static_cast<int32_t>(i);
      input = std::copy_n(from, kept[i], input);
      *input++ = sentinel;
      *target++ = sentinel;
      target = std::copy_n(from + kept[i], lost[i], target);
      from += kept[i] + lost[i];
    }
    *input = *target = special_.padding;
    const auto decoder_inputs = batch.decoder_inputs.values<int32_t>().begin() + row * counts_.targets;
    decoder_inputs[0] = special_.padding;
    std::copy_n(targets, counts_.targets - 1, decoder_inputs + 1);
  }
  return batch;
}

}  // namespace trefoil
