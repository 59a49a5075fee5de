#include "data/tasks/pairs.h"

#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

namespace trefoil {
namespace {

// By the longer of the two, then by the source.
int64_t SortKey(const RecordSet& records, int64_t record) {
  const int64_t source = records.Length(record, 0), target = records.Length(record, 1);
  return std::max(source, target) << 32 | source;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Pairs>> Pairs::Open(RecordSet records, int32_t end_of_text, const PairOptions& options,
                                                   uint64_t seed) {
  CHECK(options.inputs_length >= 2 && options.decoder_length >= 2);
  TREFOIL_RETURN_IF_ERROR(records.CheckParts({RecordPart::kSource, RecordPart::kTarget}, "translation"));
  std::vector<int64_t> kept;
  int64_t shortest[2] = {std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::max()};
  for (int64_t record = 0; record < records.size(); ++record) {
    const int64_t source = records.Length(record, 0) + 1, target = records.Length(record, 1) + 1;
    if (source <= options.inputs_length && target <= options.decoder_length) kept.push_back(record);
    shortest[0] = std::min(shortest[0], source);
    shortest[1] = std::min(shortest[1], target);
  }
  if (kept.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        records.name(), ": none of ", records.size(), " pairs fits ", options.inputs_length, " tokens of source and ",
        options.decoder_length, " of target, each with an end of text; the shortest of each have ", shortest[0],
        " and ", shortest[1]));
  }
  return std::unique_ptr<Pairs>(new Pairs(std::move(records), std::move(kept), end_of_text, options, seed));
}

Pairs::Pairs(RecordSet records, std::vector<int64_t> kept, int32_t end_of_text, const PairOptions& options,
             uint64_t seed)
    : records_(std::move(records)),
      kept_(std::move(kept)),
      end_of_text_(end_of_text),
      options_(options),
      order_(
          static_cast<int64_t>(kept_.size()),
          [this](int64_t i) { return SortKey(records_, kept_[static_cast<size_t>(i)]); }, options.batch, seed) {}

std::optional<SampleLengths> Pairs::Lengths(int64_t first_sample, int64_t count) const {
  if (!options_.shorten.on()) return std::nullopt;
  int64_t inputs = 0, decoder = 0;
  for (int64_t sample = first_sample; sample < first_sample + count; ++sample) {
    const int64_t record = RecordOf(sample);
    inputs = std::max(inputs, records_.Length(record, 0) + 1);
    decoder = std::max(decoder, records_.Length(record, 1) + 1);
  }
  return SampleLengths{.inputs = options_.shorten.Of(inputs, options_.inputs_length),
                       .decoder = options_.shorten.Of(decoder, options_.decoder_length)};
}

absl::StatusOr<Batch> Pairs::Get(int64_t first_sample, int64_t count) const {
  CHECK_GE(first_sample, 0);
  const auto [length, decoder] = Lengths(first_sample, count)
                                     .value_or(SampleLengths{.inputs = options_.inputs_length,
                                                             .decoder = options_.decoder_length});
  const auto filled = [&](int64_t columns) {
    return HostTensor(std::vector<int32_t>(static_cast<size_t>(count * columns), end_of_text_), {count, columns});
  };
  Batch batch{.samples = count, .length = length, .first_sample = first_sample};
  batch.inputs = filled(length);
  batch.lengths = HostTensor::Zeros(DType::kInt32, {count});
  batch.decoder_inputs = batch.targets = filled(decoder);
  batch.weights = HostTensor::Zeros(DType::kFloat32, {count, decoder});
  for (int64_t row = 0; row < count; ++row) {
    TREFOIL_ASSIGN_OR_RETURN(const Record record, records_.Read(RecordOf(first_sample + row)));
    const std::vector<int32_t>&source = record[0], &target = record[1];
    std::copy(source.begin(), source.end(), batch.inputs.values<int32_t>().begin() + row * length);
    batch.lengths.values<int32_t>()[static_cast<size_t>(row)] = static_cast<int32_t>(source.size()) + 1;
    std::copy(target.begin(), target.end(), batch.decoder_inputs.values<int32_t>().begin() + row * decoder + 1);
    std::copy(target.begin(), target.end(), batch.targets.values<int32_t>().begin() + row * decoder);
    std::fill_n(batch.weights.values<float>().begin() + row * decoder, target.size() + 1, 1.0f);
  }
  return batch;
}

}  // namespace trefoil
