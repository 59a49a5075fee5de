// Classes of images.
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "data/images/image_samples.h"
#include "data/text/corpus.h"
#include "launcher/prediction/batches.h"
#include "launcher/prediction/lines.h"
#include "launcher/prediction/pictures.h"
#include "launcher/prediction/prediction.h"

namespace trefoil {
namespace {

using Json = nlohmann::ordered_json;

// Images to look at: of packed files, which come in an order of their own, or pictures.
struct Source {
  int64_t images = 0;
  std::function<absl::StatusOr<Batch>(int64_t first, int64_t count)> get = nullptr;
  std::function<int64_t(int64_t k)> image = nullptr;          // which one the k-th is
  std::function<std::string(int64_t image)> name = nullptr;   // for people
  std::function<std::string(int64_t image)> label = nullptr;  // none of pictures
};

class Classifier {
 public:
  Classifier(const PredictionJob& job, FileSystem& fs)
      : job_(job), fs_(fs), model_(job.predictor.model()), names_(job.task, model_.classes()) {}

  absl::StatusOr<Predictions> Run(const std::vector<std::string>& inputs) {
    std::vector<Source> sources;
    std::vector<std::string> pictures;
    for (const std::string& input : inputs) {
      const bool packed = input.ends_with(".images") || (!fs_.Exists(input) && !Glob(input + ".images").empty());
      if (!packed) {
        TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ExpandInputs({input}));
        pictures.insert(pictures.end(), paths.begin(), paths.end());
        continue;
      }
      TREFOIL_ASSIGN_OR_RETURN(Source source, Packed(input));
      sources.push_back(std::move(source));
    }
    if (!pictures.empty()) sources.push_back(Pictures(std::move(pictures)));
    for (const Source& source : sources) TREFOIL_RETURN_IF_ERROR(Classify(source));
    if (all_ > 0) result_.scores.push_back(Accuracy(right_, all_));
    return std::move(result_);
  }

 private:
  absl::StatusOr<Source> Packed(const std::string& glob) {
    const ImageOptions options = {.image_size = model_.image_size(),
                                  .patch_size = model_.patch_size(),
                                  .mean = {job_.task.pixel_mean()},
                                  .deviation = {job_.task.pixel_deviation()}};
    TREFOIL_ASSIGN_OR_RETURN(auto opened, ImageSamples::Open({glob}, options, /*seed=*/0, fs_));
    const std::shared_ptr<const ImageSamples> samples = std::move(opened);
    if (samples->set().format().channels != model_.channels()) {
      return absl::InvalidArgumentError(absl::StrCat(glob, ": its images have ", samples->set().format().channels,
                                                     " channels, the model reads ", model_.channels(),
                                                     "; pack them with --channels=", model_.channels()));
    }
    Source source = {.images = samples->samples()};
    source.get = [samples](int64_t first, int64_t count) { return samples->Get(first, count); };
    source.image = [samples](int64_t k) { return samples->Image(k); };
    source.name = [samples](int64_t image) { return samples->set().Describe(image); };
    source.label = [samples](int64_t image) {
      return samples->set().format().classes[static_cast<size_t>(samples->set().label(image))];
    };
    return source;
  }

  Source Pictures(std::vector<std::string> paths) {
    const auto shared = std::make_shared<const std::vector<std::string>>(std::move(paths));
    Source source = {.images = std::ssize(*shared)};
    source.get = [this, shared](int64_t first, int64_t count) {
      return ReadPictures(fs_, model_, job_.task,
                          std::span(*shared).subspan(static_cast<size_t>(first), static_cast<size_t>(count)));
    };
    source.image = [](int64_t k) { return k; };
    source.name = [shared](int64_t image) { return (*shared)[static_cast<size_t>(image)]; };
    return source;
  }

  absl::Status Classify(const Source& source) {
    std::vector<std::string> lines(static_cast<size_t>(source.images));
    const std::vector<int64_t> alike(lines.size(), 1);
    TREFOIL_RETURN_IF_ERROR(
        InBatches("looking", "images", alike, job_.options.batch, [&](std::span<const size_t> numbers) -> absl::Status {
          const auto first = static_cast<int64_t>(numbers.front());  // the others follow, all being alike
          TREFOIL_ASSIGN_OR_RETURN(const Batch batch, source.get(first, std::ssize(numbers)));
          const Rows rows = job_.predictor.Outputs(batch);
          for (int64_t i = 0; i < std::ssize(numbers); ++i) {
            const int64_t image = source.image(first + i);
            TREFOIL_ASSIGN_OR_RETURN(lines[static_cast<size_t>(image)], Line(source, image, rows[i]));
          }
          return absl::OkStatus();
        }));
    result_.lines.insert(result_.lines.end(), lines.begin(), lines.end());
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Line(const Source& source, int64_t image, std::span<const float> row) {
    const std::vector<Choice> choices = Likeliest(row, job_.options.top, names_.size());
    const std::string name = source.name(image);
    Json line = {{"input", name}, {"predictions", names_.Json(choices)}};
    if (source.label) {
      const std::string label = source.label(image);
      TREFOIL_ASSIGN_OR_RETURN(const int64_t id, names_.Find(label, name));
      ++all_;
      right_ += choices.front().id == id ? 1 : 0;
      line["reference"] = label;
    }
    return job_.options.json ? JsonText(line) : absl::StrCat(OneLine(name), "\t", names_.Line(choices));
  }

  const PredictionJob& job_;
  FileSystem& fs_;
  const ModelConfig& model_;
  const ClassNames names_;
  Predictions result_;
  int64_t all_ = 0, right_ = 0;  // whose right class is known
};

}  // namespace

absl::StatusOr<Predictions> PredictImages(const PredictionJob& job, FileSystem& fs,
                                          const std::vector<std::string>& inputs) {
  return Classifier(job, fs).Run(inputs);
}

}  // namespace trefoil
