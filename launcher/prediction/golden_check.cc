#include "launcher/prediction/golden_check.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "data/images/image_patches.h"
#include "exchange/safetensors.h"
#include "model/families/recipe.h"
#include "model/patches.h"

namespace trefoil {
namespace {

class Golden {
 public:
  static absl::StatusOr<Golden> Open(FileSystem& fs, const std::string& path) {
    Golden golden;
    golden.path_ = path;
    TREFOIL_ASSIGN_OR_RETURN(golden.tensors_, OpenSafetensors(fs, path));
    return golden;
  }

  bool Has(const std::string& name) const { return tensors_->Find(name) != nullptr; }

  absl::StatusOr<HostTensor> Floats(const std::string& name, int rank) const {
    const ForeignTensor* const tensor = tensors_->Find(name);
    if (tensor == nullptr) return absl::NotFoundError(path_ + ": has no " + name);
    if (rank != 0 && static_cast<int>(tensor->shape.size()) != rank) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_, ": ", name, " is ", tensor->ShapeText(), ", must have ", rank, " dims"));
    }
    Shape shape;
    for (const int64_t dim : tensor->shape) shape.push_back(dim);
    TREFOIL_ASSIGN_OR_RETURN(std::vector<float> values, tensors_->ReadAll(*tensor));
    return HostTensor(std::move(values), shape);
  }

  // Ids in [0, below).
  absl::StatusOr<HostTensor> Ids(const std::string& name, int64_t below) const {
    TREFOIL_ASSIGN_OR_RETURN(const HostTensor floats, Floats(name, 2));
    std::vector<int32_t> ids;
    for (const float value : floats.values<float>()) {
      if (!(value >= 0 && value < static_cast<float>(below))) {
        return absl::InvalidArgumentError(absl::StrCat(path_, ": ", name, " has ", value, ", must be below ", below));
      }
      ids.push_back(static_cast<int32_t>(value));
    }
    return HostTensor(std::move(ids), floats.shape());
  }

 private:
  std::string path_;
  std::unique_ptr<ForeignTensors> tensors_;
};

// All beginnings of all samples; rows of ids must outlive them.
std::vector<Prefix> PrefixesOf(const HostTensor& ids) {
  std::vector<Prefix> prefixes;
  const auto length = static_cast<size_t>(ids.shape()[1]);
  for (size_t sample = 0; sample < static_cast<size_t>(ids.shape()[0]); ++sample) {
    for (size_t tokens = 1; tokens <= length; ++tokens) {
      prefixes.push_back({.text = static_cast<int64_t>(sample),
                          .ids = std::span(ids.values<int32_t>()).subspan(sample * length, tokens)});
    }
  }
  return prefixes;
}

// A batch of whole images.
absl::StatusOr<Batch> PatchesOf(const HostTensor& pixels, const ModelConfig& model) {
  const int64_t samples = pixels.shape()[0], size = model.image_size(), channels = model.channels();
  if (pixels.shape() != Shape{samples, channels, size, size}) {
    return absl::InvalidArgumentError(absl::StrCat("pixels: must be ", channels, " x ", size, " x ", size));
  }
  const int64_t places = ImagePlaces(model), values = PatchValues(model);
  Batch batch = {.samples = samples, .length = places};
  batch.patches = HostTensor::Zeros(DType::kFloat32, {samples, places, values});
  std::vector<int32_t> place;
  std::vector<float> picture(static_cast<size_t>(channels * size * size));
  for (int64_t b = 0; b < samples; ++b) {
    const float* const there = pixels.values<float>().data() + b * channels * size * size;
    for (int64_t i = 0; i < size * size; ++i) {
      for (int64_t c = 0; c < channels; ++c)
        picture[static_cast<size_t>(i * channels + c)] = there[c * size * size + i];
    }
    for (int64_t n = 0; n < places; ++n) {
      place.push_back(static_cast<int32_t>(n));
      if (n == 0) continue;
      CopyPatch({.pixels = picture, .width = size, .channels = channels}, model.patch_size(), n - 1,
                batch.patches.values<float>().data() + (b * places + n) * values);
    }
  }
  batch.patch_places = HostTensor(std::move(place), {samples, places});
  return batch;
}

absl::StatusOr<Rows> WhatModelSays(const Golden& golden, Predictor& predictor) {
  const ModelConfig& model = predictor.model();
  const Recipe::Structure structure = RecipeOf(model).structure;
  if (structure == Recipe::Structure::kVision) {
    TREFOIL_ASSIGN_OR_RETURN(const HostTensor pixels, golden.Floats("pixels", 4));
    TREFOIL_ASSIGN_OR_RETURN(Batch batch, PatchesOf(pixels, model));
    batch.places = HostTensor::Zeros(DType::kInt32, {batch.samples, 1});
    return predictor.Outputs(batch);
  }
  TREFOIL_ASSIGN_OR_RETURN(HostTensor ids, golden.Ids("ids", model.vocabulary()));
  Batch batch = {.samples = ids.shape()[0], .length = ids.shape()[1]};
  const int64_t limit = model.sequence_length();
  if (batch.length > limit) {
    return absl::InvalidArgumentError(absl::StrCat("ids: ", batch.length, " tokens, and the model reads ", limit));
  }
  if (structure == Recipe::Structure::kDecoder || structure == Recipe::Structure::kRecurrent) {
    return predictor.Next(PrefixesOf(ids));
  }
  batch.inputs = std::move(ids);
  if (structure == Recipe::Structure::kEncoderDecoder) {
    TREFOIL_ASSIGN_OR_RETURN(const HostTensor decoder, golden.Ids("decoder_ids", model.vocabulary()));
    return predictor.Next(predictor.Encode(batch), PrefixesOf(decoder));
  }
  if (golden.Has("segments")) {
    TREFOIL_ASSIGN_OR_RETURN(batch.segments, golden.Ids("segments", 2));
  }
  const int64_t of_sample = model.targets() == 1 ? 1 : batch.length;
  std::vector<int32_t> places;
  for (int64_t i = 0; i < batch.samples * of_sample; ++i) places.push_back(static_cast<int32_t>(i % of_sample));
  batch.places = HostTensor(std::move(places), {batch.samples, of_sample});
  return predictor.Outputs(batch);
}

// Of logits.
double LogSumExp(std::span<const float> row) {
  const double most = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const float value : row) sum += std::exp(value - most);
  return most + std::log(sum);
}

}  // namespace

absl::StatusOr<GoldenComparison> CompareWithGolden(FileSystem& fs, const std::string& path, Predictor& predictor) {
  TREFOIL_ASSIGN_OR_RETURN(const Golden golden, Golden::Open(fs, path));
  TREFOIL_ASSIGN_OR_RETURN(const HostTensor logits, golden.Floats("logits", 0));
  const absl::StatusOr<Rows> said = WhatModelSays(golden, predictor);
  if (!said.ok()) return absl::Status(said.status().code(), absl::StrCat(path, ": ", said.status().message()));
  const int64_t columns = said->columns;
  if (logits.shape().elements() != said->count() * columns) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": logits are ", logits.shape().ToString(),
                                                   ", the model gives ", said->count(), " rows of ", columns));
  }
  GoldenComparison comparison = {.rows = said->count(), .difference = 0, .where = ""};
  const int64_t of_sample = said->count() / logits.shape()[0];
  const bool of_numbers = predictor.model().head() == ModelConfig::VALUE;
  for (int64_t row = 0; row < said->count(); ++row) {
    const auto wanted =
        std::span(logits.values<float>()).subspan(static_cast<size_t>(row * columns), static_cast<size_t>(columns));
    const double shift = of_numbers ? 0 : LogSumExp(wanted);
    for (size_t i = 0; i < wanted.size(); ++i) {
      const double difference = std::abs((*said)[row][i] - (wanted[i] - shift));
      if (difference <= comparison.difference) continue;  // NaN is not
      comparison.difference = difference;
      comparison.where = absl::StrCat("row ", row % of_sample, " of sample ", row / of_sample);
    }
  }
  return comparison;
}

}  // namespace trefoil
