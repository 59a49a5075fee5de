#include "data/tasks/text_inputs.h"

#include <glog/logging.h>

#include <algorithm>
#include <vector>

namespace trefoil {

TextLengths Kept(const TextLengths& lengths, int64_t length) {
  const int64_t room = length - (lengths.pair > 0 ? 3 : 2);
  CHECK_GE(room, lengths.pair > 0 ? 2 : 1) << "for a token of each text";
  if (lengths.text + lengths.pair <= room) return lengths;
  // Where the longer has become as long as the other they take turns: each ends with half of the room.
  const int64_t half = (room + 1) / 2;
  if (lengths.pair <= room / 2) return {room - lengths.pair, lengths.pair};
  if (lengths.text <= half) return {lengths.text, room - lengths.text};
  return {half, room - half};
}

Batch TextInputs(std::span<const TextPair> texts, const SpecialTokens& special, int64_t length) {
  const auto count = static_cast<int64_t>(texts.size());
  Batch batch = {.samples = count, .length = length};
  batch.inputs =
      HostTensor(std::vector<int32_t>(static_cast<size_t>(count * length), special.padding), {count, length});
  batch.segments = HostTensor::Zeros(DType::kInt32, {count, length});
  batch.lengths = HostTensor::Zeros(DType::kInt32, {count});
  for (int64_t row = 0; row < count; ++row) {
    const auto& [text, pair] = texts[static_cast<size_t>(row)];
    const TextLengths kept = Kept({static_cast<int64_t>(text.size()), static_cast<int64_t>(pair.size())}, length);
    auto input = batch.inputs.values<int32_t>().begin() + row * length;
    *input++ = special.begin;
    input = std::copy_n(text.begin(), kept.text, input);
    *input++ = special.separator;
    if (kept.pair > 0) {
      input = std::copy_n(pair.begin(), kept.pair, input);
      *input = special.separator;
      std::fill_n(batch.segments.values<int32_t>().begin() + row * length + kept.text + 2, kept.pair + 1, 1);
    }
    batch.lengths.values<int32_t>()[static_cast<size_t>(row)] = static_cast<int32_t>(kept.whole());
  }
  return batch;
}

}  // namespace trefoil
