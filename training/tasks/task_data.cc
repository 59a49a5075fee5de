#include "training/tasks/task_data.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <numeric>
#include <utility>

#include "data/images/image_samples.h"
#include "data/tasks/answers.h"
#include "data/tasks/labelled.h"
#include "data/tasks/masked_tokens.h"
#include "data/tasks/pairs.h"
#include "data/tasks/span_corruption.h"
#include "data/tokens/loader.h"
#include "data/tokens/tokenizer.h"
#include "training/tasks/tasks.h"

namespace trefoil {
namespace {

using Part = TaskData::Part;

constexpr uint64_t kHeldOutSeed = 0;

std::vector<std::string> Globs(const DataConfig& data, Part part) {
  const auto& globs = part == Part::kTrain ? data.train() : data.held_out();
  return {globs.begin(), globs.end()};
}

std::string Basename(const std::string& path) { return path.substr(path.rfind('/') + 1); }

SpecialTokens EncoderTokensOf(const TaskConfig& task) {
  return EncoderTokens(task.end_of_text(), task.first_symbol());
}

bool IsOfRunningText(TaskConfig::Kind kind) {
  return kind == TaskConfig::NEXT_TOKEN || kind == TaskConfig::MASKED_TOKEN || kind == TaskConfig::SPAN_CORRUPTION;
}
bool IsOfImages(TaskConfig::Kind kind) { return kind == TaskConfig::IMAGE_CLASSES || kind == TaskConfig::PATCHES; }

class Opener {
 public:
  Opener(const RunConfig& config, Part part)
      : config_(config),
        task_(config.task()),
        train_(part == Part::kTrain),
        globs_(Globs(config.data(), part)),
        seed_(train_ ? config.data().seed() : kHeldOutSeed) {}

  absl::StatusOr<TaskData> Open() {
    TREFOIL_RETURN_IF_ERROR(CheckWeights());
    const absl::Status opened = IsOfRunningText(task_.kind()) ? OpenText()
                                : IsOfImages(task_.kind())    ? OpenImages()
                                                              : OpenRecords();
    TREFOIL_RETURN_IF_ERROR(opened);
    return std::move(data_);
  }

 private:
  // Samples of similar length come together in training. Those of an evaluation are the same for every batch.
  int64_t batch() const { return train_ ? config_.training().global_batch() : 1; }
  Shortening shorten() const {
    if (!ShortensBatches(config_)) return {};
    // Sequence parallelism splits the tokens of a sample evenly, and fp8 multiplies sixteen at a time.
    const int64_t ranks = config_.parallel().sequence_parallel() ? config_.parallel().tensor() : 1;
    const bool float8 = config_.training().precision() == TrainingConfig::FP8;
    return {.multiple = std::lcm(float8 ? int64_t{16} : int64_t{8}, ranks)};
  }

  absl::Status CheckWeights() const {
    if (config_.data().weights().empty() || IsOfRunningText(task_.kind())) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("data.weights: ", config_.data().weights_size(),
                                                   " of them, but task.kind ", TaskConfig::Kind_Name(task_.kind()),
                                                   " mixes no sources; nearest legal: none"));
  }

  absl::StatusOr<std::unique_ptr<Loader>> Text(int64_t length, int64_t vocabulary) {
    const bool documents = config_.data().mask_documents();
    std::vector<double> weights;
    if (train_) weights = {config_.data().weights().begin(), config_.data().weights().end()};
    TREFOIL_ASSIGN_OR_RETURN(auto text, Loader::Open(globs_, length, vocabulary, seed_, weights, documents));
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    const Loader* loader = text.get();  // lives as long as the samples, which own it
    for (size_t i = 0; i < text->sources().size(); ++i) {
      const Loader::Source& source = text->sources()[i];
      data_.sources.push_back({.name = source.glob,
                               .samples = source.set.samples(),
                               .epochs = [loader, i](int64_t samples) {
                                 return loader->Epochs(static_cast<int>(i), samples);
                               }});
      for (const TokenFile& file : source.set.files()) {
        Add(file);
        if (weights.empty()) continue;
        data_.files.back().source = static_cast<int>(i) + 1;
        data_.files.back().share = weights[i] / sum;
      }
    }
    return text;
  }

  void Add(const TokenFile& file) {
    data_.items = "tokens";
    data_.files.push_back({.name = Basename(file.prefix()), .items = file.tokens(), .checksum = file.checksum()});
  }

  absl::Status OpenText() {
    const int64_t length = config_.model().sequence_length();
    data_.unit = absl::StrCat("samples of ", length, " tokens");
    if (task_.kind() == TaskConfig::NEXT_TOKEN) {
      TREFOIL_ASSIGN_OR_RETURN(data_.samples, Text(length, config_.model().vocabulary()));
    } else if (task_.kind() == TaskConfig::MASKED_TOKEN) {
      MaskingOptions options = {.rate = task_.mask_rate()};
      if (task_.whole_words()) {
        TREFOIL_ASSIGN_OR_RETURN(const Tokenizer tokenizer,
                                 Tokenizer::Load(FileSystem::Posix(), config_.data().tokenizer()));
        options.begins_word = tokenizer.BeginsWord();
      }
      TREFOIL_ASSIGN_OR_RETURN(auto text, Text(MaskedTokens::TextLength(length), task_.first_symbol()));
      data_.samples = std::make_unique<MaskedTokens>(std::move(text), EncoderTokensOf(task_), task_.first_symbol(), seed_,
                                                     std::move(options));
    } else {
      TREFOIL_ASSIGN_OR_RETURN(const SpanCounts spans, SpansOf(config_));
      TREFOIL_ASSIGN_OR_RETURN(auto text, Text(spans.text - 1, task_.first_symbol()));
      data_.samples = std::make_unique<SpanCorruption>(
          std::move(text), SentinelTokens(task_.end_of_text(), task_.first_symbol()), spans, seed_);
    }
    return absl::OkStatus();
  }

  absl::Status OpenRecords() {
    TREFOIL_ASSIGN_OR_RETURN(RecordSet records, RecordSet::Open(globs_));
    for (const TokenFile& file : records.files()) Add(file);
    data_.classes = records.description().labels;
    const ModelConfig& model = config_.model();
    const auto left_out = [&](int64_t dropped, const char* what) {
      if (dropped > 0) data_.note = absl::StrCat(dropped, " ", what, " are too long and left out");
    };
    if (task_.kind() == TaskConfig::TRANSLATION) {
      data_.unit = "pairs";
      const PairOptions options = {.inputs_length = model.sequence_length(),
                                   .decoder_length = model.decoder_length(),
                                   .batch = batch(),
                                   .shorten = shorten()};
      TREFOIL_ASSIGN_OR_RETURN(auto pairs, Pairs::Open(std::move(records), task_.end_of_text(), options, seed_));
      left_out(pairs->dropped(), "pairs");
      data_.samples = std::move(pairs);
    } else if (task_.kind() == TaskConfig::ANSWERS) {
      data_.unit = "conversations";
      TREFOIL_ASSIGN_OR_RETURN(
          auto answers, Answers::Open(std::move(records), task_.end_of_text(), model.sequence_length(), seed_));
      left_out(answers->dropped(), "conversations");
      data_.samples = std::move(answers);
    } else {
      TREFOIL_RETURN_IF_ERROR(OpenLabelled(std::move(records)));
    }
    AddSource();
    return absl::OkStatus();
  }

  absl::Status OpenLabelled(RecordSet records) {
    const std::string name = records.name();
    const LabelledOptions options = {.length = config_.model().sequence_length(),
                                     .limit = train_ ? task_.examples() : 0,
                                     .batch = batch(),
                                     .shorten = shorten()};
    TREFOIL_ASSIGN_OR_RETURN(auto texts,
                             LabelledTexts::Open(std::move(records), EncoderTokensOf(task_), options, seed_));
    using Kind = LabelledTexts::Kind;
    const Kind wanted = task_.kind() == TaskConfig::TEXT_CLASSES    ? Kind::kClass
                        : task_.kind() == TaskConfig::TOKEN_CLASSES ? Kind::kTokenClass
                                                                    : Kind::kValue;
    if (texts->kind() != wanted) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": its records have other labels than task.kind ",
                                                     TaskConfig::Kind_Name(task_.kind()), " needs"));
    }
    TREFOIL_RETURN_IF_ERROR(CheckClasses(name));
    data_.unit = "labelled texts";
    if (texts->cut() > 0) data_.note = absl::StrCat(texts->cut(), " texts are cut");
    data_.samples = std::move(texts);
    return absl::OkStatus();
  }

  absl::Status CheckClasses(const std::string& name) const {
    const auto classes = static_cast<int64_t>(data_.classes.size());
    if (config_.model().head() != ModelConfig::CLASSES) return absl::OkStatus();
    const std::vector<std::string> named(task_.class_names().begin(), task_.class_names().end());
    if (train_ && !named.empty() && named != data_.classes) {
      return absl::InvalidArgumentError(absl::StrCat("task.class_names: ", absl::StrJoin(named, ", "), ", but ", name,
                                                     " has ", absl::StrJoin(data_.classes, ", "), "; leave it out"));
    }
    if (classes <= config_.model().classes()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("model.classes: ", config_.model().classes(), ", but ", name, " has ",
                                                   classes, "; nearest legal: ", classes));
  }

  absl::Status OpenImages() {
    const ModelConfig& model = config_.model();
    ImageOptions options = {.image_size = model.image_size(),
                            .patch_size = model.patch_size(),
                            .mean = {task_.pixel_mean()},
                            .deviation = {task_.pixel_deviation()},
                            .mask_share = task_.kind() == TaskConfig::PATCHES ? task_.mask_rate() : 0,
                            .classes = model.head() == ModelConfig::CLASSES ? model.classes() : 0};
    if (train_) {
      if (task_.crop() < 1) options.crop = ImageOptions::Crop::kScaled;
      if (task_.crop_padding() > 0) options.crop = ImageOptions::Crop::kPadded;
      options.least_area = task_.crop();
      options.padding = task_.crop_padding();
      options.flip = task_.flip();
      options.images = task_.examples();
    }
    TREFOIL_ASSIGN_OR_RETURN(auto images, ImageSamples::Open(globs_, options, seed_));
    if (images->set().format().channels != model.channels()) {
      return absl::InvalidArgumentError(absl::StrCat("model.channels: ", model.channels(), ", but the images of ",
                                                     globs_.front(), " have ", images->set().format().channels,
                                                     "; nearest legal: ", images->set().format().channels));
    }
    data_.unit = data_.items = "images";
    data_.classes = images->set().format().classes;
    TREFOIL_RETURN_IF_ERROR(CheckClasses(globs_.front()));
    for (const ImageFile& file : images->set().files()) {
      data_.files.push_back({.name = Basename(file.path()),
                             .items = static_cast<int64_t>(file.labels().size()),
                             .checksum = file.checksum()});
    }
    data_.samples = std::move(images);
    AddSource();
    return absl::OkStatus();
  }

  void AddSource() {
    const int64_t samples = data_.samples->samples();
    data_.sources.push_back({.name = globs_.front(), .samples = samples, .epochs = [samples](int64_t used) {
                               return static_cast<double>(used) / static_cast<double>(samples);
                             }});
  }

  const RunConfig& config_;
  const TaskConfig& task_;
  const bool train_;
  const std::vector<std::string> globs_;
  const uint64_t seed_;
  TaskData data_;
};

}  // namespace

int64_t TaskData::items_in_all() const {
  int64_t items = 0;
  for (const File& file : files) items += file.items;
  return items;
}

absl::StatusOr<TaskData> OpenTaskData(const RunConfig& config, TaskData::Part part) {
  return Opener(config, part).Open();
}

absl::StatusOr<std::vector<std::string>> ClassesOfData(const DataConfig& data, TaskConfig::Kind kind) {
  const std::vector<std::string> globs = Globs(data, Part::kTrain);
  if (IsOfImages(kind)) {
    TREFOIL_ASSIGN_OR_RETURN(const ImageSet images, ImageSet::Open(globs));
    return images.format().classes;
  }
  TREFOIL_ASSIGN_OR_RETURN(const RecordSet records, RecordSet::Open(globs));
  return records.description().labels;
}

absl::Status CheckTokenizerOfData(const RunConfig& config, uint32_t checksum) {
  const TaskConfig::Kind kind = config.task().kind();
  if (IsOfRunningText(kind) || IsOfImages(kind)) return absl::OkStatus();
  for (const Part part : {Part::kTrain, Part::kHeldOut}) {
    const std::vector<std::string> globs = Globs(config.data(), part);
    if (globs.empty()) continue;
    TREFOIL_ASSIGN_OR_RETURN(const RecordSet records, RecordSet::Open(globs));
    TREFOIL_RETURN_IF_ERROR(records.CheckTokenizer(checksum, config.data().tokenizer()));
  }
  return absl::OkStatus();
}

}  // namespace trefoil
