#include "data/tokens/loader.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

namespace trefoil {
namespace {

// Sources of one size are to have different orders. Source 0 has the order that it has alone.
uint64_t SeedOf(uint64_t seed, size_t source) { return seed + source * 0x632be59bd9b4e019u; }

absl::Status CheckDistinct(const std::vector<Loader::Source>& sources) {
  std::map<std::string, const Loader::Source*> owner;
  for (const Loader::Source& source : sources) {
    for (const TokenFile& file : source.set.files()) {
      const auto [other, is_new] = owner.emplace(file.prefix(), &source);
      if (!is_new) {
        return absl::InvalidArgumentError(absl::StrCat("data.train: ", file.prefix(), " is matched by ",
                                                       other->second->glob, " and by ", source.glob,
                                                       "; with data.weights each file belongs to one of them"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

Loader::Loader(std::vector<Source> sources, Mixture mixture, int64_t sequence_length, bool documents)
    : sources_(std::move(sources)),
      mixture_(std::move(mixture)),
      sequence_length_(sequence_length),
      documents_(documents) {}

absl::StatusOr<std::unique_ptr<Loader>> Loader::Open(const std::vector<std::string>& globs, int64_t sequence_length,
                                                     int64_t vocabulary, uint64_t seed,
                                                     const std::vector<double>& weights, bool documents,
                                                     FileSystem& fs) {
  std::vector<Source> sources;
  const auto add = [&](const std::vector<std::string>& patterns) -> absl::Status {
    TREFOIL_ASSIGN_OR_RETURN(TokenSet set, TokenSet::Open(patterns, sequence_length, vocabulary, fs));
    if (documents) TREFOIL_RETURN_IF_ERROR(set.FindDocuments(fs));
    const Sampler sampler(set.samples(), SeedOf(seed, sources.size()));
    sources.push_back({.glob = absl::StrJoin(patterns, ", "), .set = std::move(set), .sampler = sampler});
    return absl::OkStatus();
  };
  if (weights.empty()) {
    TREFOIL_RETURN_IF_ERROR(add(globs));
  } else {
    CHECK_EQ(weights.size(), globs.size());
    for (const std::string& glob : globs) TREFOIL_RETURN_IF_ERROR(add({glob}));
    TREFOIL_RETURN_IF_ERROR(CheckDistinct(sources));
  }
  Mixture mixture(weights.empty() ? std::vector<double>{1} : weights);
  return std::unique_ptr<Loader>(new Loader(std::move(sources), std::move(mixture), sequence_length, documents));
}

std::vector<const TokenFile*> Loader::files() const {
  std::vector<const TokenFile*> files;
  for (const Source& source : sources_) {
    for (const TokenFile& file : source.set.files()) files.push_back(&file);
  }
  return files;
}

int64_t Loader::samples() const {
  int64_t samples = 0;
  for (const Source& source : sources_) samples += source.set.samples();
  return samples;
}

int64_t Loader::tokens() const {
  int64_t tokens = 0;
  for (const Source& source : sources_) tokens += source.set.tokens();
  return tokens;
}

double Loader::Epochs(int source, int64_t samples) const {
  return static_cast<double>(mixture_.CountBefore(source, samples)) /
         static_cast<double>(sources_[static_cast<size_t>(source)].set.samples());
}

absl::Status Loader::ReadSample(int64_t sample, std::span<int32_t> tokens) const {
  const Mixture::Place place = mixture_.At(sample);
  const Source& source = sources_[static_cast<size_t>(place.source)];
  return source.set.ReadSample(source.sampler.Index(place.number), tokens);
}

absl::StatusOr<Batch> Loader::Get(int64_t first_sample, int64_t count) const {
  CHECK_GE(first_sample, 0);
  CHECK_GE(count, 0);
  Batch batch{.samples = count, .length = sequence_length_, .first_sample = first_sample};
  batch.inputs = batch.targets = HostTensor::Zeros(DType::kInt32, {count, sequence_length_});
  std::vector<int32_t> tokens(sequence_length_ + 1);
  for (int64_t row = 0; row < count; ++row) {
    TREFOIL_RETURN_IF_ERROR(ReadSample(first_sample + row, tokens));
    std::copy(tokens.begin(), tokens.end() - 1, batch.inputs.values<int32_t>().begin() + row * sequence_length_);
    std::copy(tokens.begin() + 1, tokens.end(), batch.targets.values<int32_t>().begin() + row * sequence_length_);
  }
  if (documents_) AddDocuments(&batch);
  return batch;
}

void Loader::AddDocuments(Batch* batch) const {
  const auto length = static_cast<size_t>(sequence_length_);
  std::vector<int32_t> all, starts(length + 1);
  std::vector<float> weights;
  for (int64_t row = 0; row < batch->samples; ++row) {
    const Mixture::Place place = mixture_.At(batch->first_sample + row);
    const Source& source = sources_[static_cast<size_t>(place.source)];
    source.set.DocumentStarts(source.sampler.Index(place.number), starts);
    all.insert(all.end(), starts.begin(), starts.end() - 1);
    for (size_t t = 0; t < length; ++t) weights.push_back(starts[t + 1] == static_cast<int32_t>(t + 1) ? 0.0f : 1.0f);
  }
  batch->document_starts = HostTensor(std::move(all), {batch->samples, sequence_length_});
  batch->weights = HostTensor(std::move(weights), {batch->samples, sequence_length_});
}

absl::Status Loader::CountTargets(int64_t first_sample, int64_t count, std::span<int64_t> counts) const {
  std::vector<int32_t> tokens(sequence_length_ + 1);
  for (int64_t sample = first_sample; sample < first_sample + count; ++sample) {
    TREFOIL_RETURN_IF_ERROR(ReadSample(sample, tokens));
    for (const int32_t id : std::span(tokens).subspan(1)) ++counts[static_cast<size_t>(id)];
  }
  return absl::OkStatus();
}

double Entropy(std::span<const int64_t> counts) {
  double total = 0;
  for (const int64_t count : counts) total += static_cast<double>(count);
  double entropy = 0;
  for (const int64_t count : counts) {
    if (count == 0) continue;
    const double p = static_cast<double>(count) / total;
    entropy -= p * std::log(p);
  }
  return entropy;
}

}  // namespace trefoil
