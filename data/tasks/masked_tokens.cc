#include "data/tasks/masked_tokens.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace trefoil {
namespace {

constexpr float kBecomesMask = 0.8f, kBecomesRandom = 0.1f;

}  // namespace

MaskedTokens::MaskedTokens(std::unique_ptr<const Loader> text, const SpecialTokens& special, int64_t vocabulary,
                           uint64_t seed, MaskingOptions options)
    : text_(std::move(text)),
      special_(special),
      vocabulary_(vocabulary),
      key_(RandomKey(seed, "masked_tokens")),
      options_(std::move(options)),
      text_length_(text_->sequence_length() + 1),
      targets_(Targets(length(), options_.rate)) {
  CHECK(options_.rate > 0 && options_.rate <= 1) << options_.rate;
  CHECK(special.begin >= 0 && special.separator >= 0 && special.mask >= 0) << "an encoder's special tokens";
  CHECK_GT(vocabulary, 4) << "or no token may be left that is not special";
  if (weighted()) CHECK_EQ(static_cast<int64_t>(options_.begins_word.size()), vocabulary);
}

std::vector<int64_t> MaskedTokens::Choose(std::span<const int32_t> text, Draws& draws) const {
  std::vector<int64_t> places = weighted() ? ChooseWords(text, draws) : draws.Choose(targets_, text_length_);
  std::sort(places.begin(), places.end());
  return places;
}

std::vector<int64_t> MaskedTokens::ChooseWords(std::span<const int32_t> text, Draws& draws) const {
  std::vector<int64_t> begins;  // of each word, then the end of the text
  for (int64_t t = 0; t < text_length_; ++t) {
    if (t == 0 || options_.begins_word[static_cast<size_t>(text[t])]) begins.push_back(t);
  }
  const auto words = static_cast<int64_t>(begins.size());
  begins.push_back(text_length_);
  const std::vector<int64_t> order = draws.Choose(words, words);
  std::vector<int64_t> places;
  const auto take = [&](int64_t word, int64_t most) {
    const int64_t end = std::min(begins[word + 1], begins[word] + most);
    for (int64_t t = begins[word]; t < end; ++t) places.push_back(t);
  };
  for (const int64_t word : order) {
    const int64_t room = targets_ - static_cast<int64_t>(places.size());
    if (begins[word + 1] - begins[word] <= room) take(word, room);
  }
  if (places.empty()) take(order[0], targets_);
  return places;
}

int32_t MaskedTokens::Hide(int32_t token, Draws& draws) const {
  const float share = draws.Uniform();
  if (share < kBecomesMask) return special_.mask;
  if (share >= kBecomesMask + kBecomesRandom) return token;
  while (true) {
    const auto random = static_cast<int32_t>(draws.Below(vocabulary_));
    const bool is_special = random == special_.padding || random == special_.begin || random == special_.separator ||
                            random == special_.mask;
    if (!is_special) return random;
  }
}

absl::StatusOr<Batch> MaskedTokens::Get(int64_t first_sample, int64_t count) const {
  Batch batch{.samples = count, .length = length(), .first_sample = first_sample};
  batch.inputs = HostTensor::Zeros(DType::kInt32, {count, length()});
  batch.targets = HostTensor(std::vector<int32_t>(count * targets_, special_.padding), {count, targets_});
  const auto last = static_cast<int32_t>(length() - 1);
  batch.places = HostTensor(std::vector<int32_t>(count * targets_, last), {count, targets_});
  if (weighted()) batch.weights = HostTensor::Zeros(DType::kFloat32, {count, targets_});
  for (int64_t row = 0; row < count; ++row) {
    const auto input = std::span(batch.inputs.values<int32_t>()).subspan(row * length(), length());
    const auto text = input.subspan(1, text_length_);
    TREFOIL_RETURN_IF_ERROR(text_->ReadSample(first_sample + row, text));
    input.front() = special_.begin;
    input.back() = special_.separator;
    Draws draws(key_, first_sample + row);
    int64_t target = row * targets_;
    for (const int64_t place : Choose(text, draws)) {
      batch.targets.values<int32_t>()[target] = text[place];
      batch.places.values<int32_t>()[target] = static_cast<int32_t>(place + 1);
      if (weighted()) batch.weights.values<float>()[target] = 1;
      text[place] = Hide(text[place], draws);
      ++target;
    }
  }
  return batch;
}

}  // namespace trefoil
