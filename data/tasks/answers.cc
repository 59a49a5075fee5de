#include "data/tasks/answers.h"

#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace trefoil {

absl::StatusOr<std::unique_ptr<Answers>> Answers::Open(RecordSet records, int32_t end_of_text, int64_t length,
                                                       uint64_t seed) {
  CHECK_GE(length, 1);
  TREFOIL_RETURN_IF_ERROR(
      records.CheckParts({RecordPart::kConversation, RecordPart::kAnswers}, "training on instructions"));
  std::vector<int64_t> kept;
  int64_t shortest = std::numeric_limits<int64_t>::max();
  for (int64_t record = 0; record < records.size(); ++record) {
    const int64_t inputs = records.Length(record, 0) - 1;
    if (inputs <= length) kept.push_back(record);
    shortest = std::min(shortest, inputs);
  }
  if (kept.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(records.name(), ": none of ", records.size(),
                                                   " conversations fits inputs of ", length,
                                                   " tokens; the shortest has ", shortest));
  }
  return std::unique_ptr<Answers>(new Answers(std::move(records), std::move(kept), end_of_text, length, seed));
}

Answers::Answers(RecordSet records, std::vector<int64_t> kept, int32_t end_of_text, int64_t length, uint64_t seed)
    : records_(std::move(records)),
      kept_(std::move(kept)),
      end_of_text_(end_of_text),
      length_(length),
      order_(static_cast<int64_t>(kept_.size()), seed) {}

absl::StatusOr<Batch> Answers::Get(int64_t first_sample, int64_t count) const {
  CHECK_GE(first_sample, 0);
  Batch batch{.samples = count, .length = length_, .first_sample = first_sample};
  batch.inputs = batch.targets =
      HostTensor(std::vector<int32_t>(static_cast<size_t>(count * length_), end_of_text_), {count, length_});
  batch.weights = HostTensor::Zeros(DType::kFloat32, {count, length_});
  for (int64_t row = 0; row < count; ++row) {
    const int64_t number = order_.Index(first_sample + row);
    TREFOIL_ASSIGN_OR_RETURN(const Record record, records_.Read(kept_[static_cast<size_t>(number)]));
    const std::vector<int32_t>&tokens = record[0], &answers = record[1];
    const int64_t at = row * length_;
    std::copy(tokens.begin(), tokens.end() - 1, batch.inputs.values<int32_t>().begin() + at);
    std::copy(tokens.begin() + 1, tokens.end(), batch.targets.values<int32_t>().begin() + at);
    std::copy(answers.begin() + 1, answers.end(), batch.weights.values<float>().begin() + at);
  }
  return batch;
}

}  // namespace trefoil
