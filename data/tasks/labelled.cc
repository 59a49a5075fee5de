#include "data/tasks/labelled.h"

#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <algorithm>
#include <span>

#include "data/tasks/text_inputs.h"
#include "runtime/random.h"

namespace trefoil {
namespace {

// Of a record's parts; none if they are no labelled text.
const std::pair<std::vector<RecordPart>, LabelledTexts::Kind>* KindOf(const std::vector<RecordPart>& parts) {
  using enum RecordPart;
  using Kind = LabelledTexts::Kind;
  static const auto& kinds = *new std::vector<std::pair<std::vector<RecordPart>, Kind>>{
      {{kText, kLabel}, Kind::kClass},
      {{kText, kTextPair, kLabel}, Kind::kClass},
      {{kText, kValue}, Kind::kValue},
      {{kText, kTextPair, kValue}, Kind::kValue},
      {{kText, kTokenLabels}, Kind::kTokenClass},
  };
  const auto found = std::find_if(kinds.begin(), kinds.end(), [&](const auto& kind) { return kind.first == parts; });
  return found == kinds.end() ? nullptr : &*found;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LabelledTexts>> LabelledTexts::Open(RecordSet records, const SpecialTokens& special,
                                                                   const LabelledOptions& options, uint64_t seed) {
  CHECK(special.begin >= 0 && special.separator >= 0) << "an encoder's special tokens";
  CHECK_GE(options.limit, 0);
  const auto* kind = KindOf(records.description().parts);
  if (kind == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(records.name(), ": records of ", Names(records.description().parts),
                     "; labelled texts are text, perhaps text_pair, and label or value; or text and token_labels"));
  }
  const bool has_pair = records.parts() == 3;
  const int64_t least = has_pair ? 5 : 3;
  if (options.length < least) {
    return absl::InvalidArgumentError(
        absl::StrCat(records.name(), ": inputs of ", options.length, " tokens are too short for ",
                     has_pair ? "[begin] text [separator] text_pair [separator]" : "[begin] text [separator]",
                     "; at least ", least));
  }
  return std::unique_ptr<LabelledTexts>(new LabelledTexts(std::move(records), kind->second, special, options, seed));
}

LabelledTexts::LabelledTexts(RecordSet records, Kind kind, const SpecialTokens& special, const LabelledOptions& options,
                             uint64_t seed)
    : records_(std::move(records)),
      kind_(kind),
      special_(special),
      options_(options),
      used_(options.limit == 0 ? records_.size() : std::min(options.limit, records_.size())),
      choice_(records_.size(), RandomKey(seed, "labelled.limit")),
      order_(used_, [this](int64_t i) { return InputLength(choice_.Index(i)); }, options.batch, seed) {
  for (int64_t i = 0; i < samples(); ++i) {
    const int64_t record = choice_.Index(i);
    const TextLengths lengths = {records_.Length(record, 0), has_pair() ? records_.Length(record, 1) : 0};
    cut_ += Kept(lengths, options_.length) != lengths;
  }
}

int64_t LabelledTexts::InputLength(int64_t record) const {
  return TextLengths{records_.Length(record, 0), has_pair() ? records_.Length(record, 1) : 0}.whole();
}

std::optional<SampleLengths> LabelledTexts::Lengths(int64_t first_sample, int64_t count) const {
  if (!options_.shorten.on() || kind_ == Kind::kTokenClass) return std::nullopt;
  int64_t inputs = 0;
  for (int64_t sample = first_sample; sample < first_sample + count; ++sample) {
    inputs = std::max(inputs, InputLength(RecordOf(sample)));
  }
  return SampleLengths{.inputs = options_.shorten.Of(inputs, options_.length)};
}

absl::StatusOr<Batch> LabelledTexts::Get(int64_t first_sample, int64_t count) const {
  CHECK_GE(first_sample, 0);
  const auto shortened = Lengths(first_sample, count);
  const int64_t length = shortened ? shortened->inputs : options_.length;
  std::vector<Record> records;
  std::vector<TextPair> texts;
  for (int64_t row = 0; row < count; ++row) {
    TREFOIL_ASSIGN_OR_RETURN(Record record, records_.Read(RecordOf(first_sample + row)));
    records.push_back(std::move(record));
  }
  for (const Record& record : records) {
    texts.push_back({.text = record[0], .pair = has_pair() ? record[1] : std::span<const int32_t>()});
  }
  Batch batch = TextInputs(texts, special_, length);
  batch.first_sample = first_sample;
  const int64_t targets = kind_ == Kind::kTokenClass ? length : 1;
  if (kind_ == Kind::kValue) {
    batch.values = HostTensor::Zeros(DType::kFloat32, {count, 1, 1});
  } else {
    batch.targets = HostTensor::Zeros(DType::kInt32, {count, targets});
  }
  if (kind_ == Kind::kTokenClass) {
    batch.weights = HostTensor::Zeros(DType::kFloat32, {count, targets});
  } else {
    batch.places = HostTensor::Zeros(DType::kInt32, {count, 1});
  }
  for (int64_t row = 0; row < count; ++row) {
    const Record& record = records[static_cast<size_t>(row)];
    const std::vector<int32_t>& label = record.back();
    if (kind_ == Kind::kValue) batch.values.values<float>()[static_cast<size_t>(row)] = ValueOf(label);
    if (kind_ == Kind::kClass) batch.targets.values<int32_t>()[static_cast<size_t>(row)] = label[0];
    if (kind_ != Kind::kTokenClass) continue;
    const int64_t kept = Kept({.text = static_cast<int64_t>(record[0].size())}, length).text;
    for (int64_t t = 0; t < kept; ++t) {
      const int32_t id = label[static_cast<size_t>(t)];  // 0: none
      const auto target = static_cast<size_t>(row * length + 1 + t);
      batch.targets.values<int32_t>()[target] = std::max(id - 1, 0);
      batch.weights.values<float>()[target] = id > 0 ? 1.0f : 0.0f;
    }
  }
  return batch;
}

}  // namespace trefoil
