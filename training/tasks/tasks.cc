#include "training/tasks/tasks.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <glog/logging.h>

#include <algorithm>
#include <vector>

#include "data/images/image_samples.h"
#include "data/tasks/masked_tokens.h"
#include "data/tasks/span_corruption.h"
#include "data/tasks/special_tokens.h"
#include "model/patches.h"

namespace trefoil {
namespace {

constexpr auto kDecoder = Recipe::Structure::kDecoder, kEncoder = Recipe::Structure::kEncoder,
               kEncoderDecoder = Recipe::Structure::kEncoderDecoder, kVision = Recipe::Structure::kVision,
               kRecurrent = Recipe::Structure::kRecurrent;

// Of a network, the first task that it can do is what it is made for, but for T5.
const TaskEntry kTable[] = {
    {.kind = TaskConfig::NEXT_TOKEN, .head = ModelConfig::TOKENS, .structures = {kDecoder, kRecurrent}},
    {.kind = TaskConfig::ANSWERS,
     .head = ModelConfig::TOKENS,
     .structures = {kDecoder, kRecurrent},
     .weights = true},
    {.kind = TaskConfig::MASKED_TOKEN, .head = ModelConfig::TOKENS, .structures = {kEncoder}, .places = true},
    {.kind = TaskConfig::TRANSLATION,
     .head = ModelConfig::TOKENS,
     .structures = {kEncoderDecoder},
     .lengths = true,
     .weights = true},
    {.kind = TaskConfig::SPAN_CORRUPTION, .head = ModelConfig::TOKENS, .structures = {kEncoderDecoder}},
    {.kind = TaskConfig::TEXT_CLASSES,
     .head = ModelConfig::CLASSES,
     .structures = {kEncoder, kRecurrent},
     .lengths = true,
     .segments = true,
     .places = true},
    {.kind = TaskConfig::TOKEN_CLASSES,
     .head = ModelConfig::CLASSES,
     .structures = {kEncoder, kRecurrent},
     .lengths = true,
     .segments = true,
     .weights = true},
    {.kind = TaskConfig::TEXT_VALUE,
     .head = ModelConfig::VALUE,
     .structures = {kEncoder, kRecurrent},
     .lengths = true,
     .segments = true,
     .places = true},
    {.kind = TaskConfig::IMAGE_CLASSES, .head = ModelConfig::CLASSES, .structures = {kVision}, .places = true},
    {.kind = TaskConfig::PATCHES, .head = ModelConfig::PATCHES, .structures = {kVision}, .places = true},
};

Recipe::Structure StructureOf(const ModelConfig& model) { return RecipeOf(model).structure; }

bool HasFamily(const ModelConfig& model) {
  return model.family() != ModelConfig::FAMILY_UNSET && ModelConfig::Family_IsValid(model.family());
}

// That can be counted without the data, of a filled task and a sequence length.
int64_t TargetsOf(const RunConfig& config) {
  const ModelConfig& model = config.model();
  const TaskConfig& task = config.task();
  switch (task.kind()) {
    case TaskConfig::MASKED_TOKEN:
      return MaskedTokens::Targets(model.sequence_length(), task.mask_rate());
    case TaskConfig::TRANSLATION:
    case TaskConfig::SPAN_CORRUPTION:
      return model.decoder_length();
    case TaskConfig::PATCHES:
      return MaskedPatches(config);
    case TaskConfig::TEXT_CLASSES:
    case TaskConfig::TEXT_VALUE:
    case TaskConfig::IMAGE_CLASSES:
      return 1;
    default:
      return model.sequence_length();
  }
}

std::string KindsOf(const ModelConfig& model) {
  std::vector<std::string> names;
  for (const TaskEntry& entry : kTable) {
    if (entry.CanBeDoneBy(model)) names.push_back(TaskConfig::Kind_Name(entry.kind));
  }
  return absl::StrJoin(names, ", ");
}

HostTensor Ids(Shape shape, int32_t value = 0) {
  return HostTensor(std::vector<int32_t>(static_cast<size_t>(shape.elements()), value), shape);
}

// 0, 1, 2 ... of each sample, from `first` on.
HostTensor Counted(Shape shape, int32_t first) {
  HostTensor tensor = Ids(shape);
  const int64_t columns = shape[1];
  for (int64_t i = 0; i < shape.elements(); ++i) {
    tensor.values<int32_t>()[static_cast<size_t>(i)] = first + static_cast<int32_t>(i % columns);
  }
  return tensor;
}

}  // namespace

bool TaskEntry::CanBeDoneBy(const ModelConfig& model) const {
  // What is written token by token must not be read from its end.
  if (model.bidirectional() && head == ModelConfig::TOKENS) return false;
  return std::find(structures.begin(), structures.end(), StructureOf(model)) != structures.end();
}

const TaskEntry& EntryOf(TaskConfig::Kind kind) {
  for (const TaskEntry& entry : kTable) {
    if (entry.kind == kind) return entry;
  }
  LOG(FATAL) << "task.kind is not set";
}

absl::StatusOr<SpanCounts> SpansOf(const RunConfig& config) {
  return SpanLengths(config.model().sequence_length(),
                     {.rate = config.task().mask_rate(), .mean_span = config.task().mean_span()});
}

int64_t MaskedPatches(const RunConfig& config) {
  return HiddenPatches(ImagePatches(config.model()), config.task().mask_rate());
}

void FillTask(RunConfig* config) {
  TaskConfig& task = *config->mutable_task();
  ModelConfig& model = *config->mutable_model();
  if (!HasFamily(model)) return;
  if (task.kind() == TaskConfig::KIND_UNSET) {
    const auto first = std::find_if(std::begin(kTable), std::end(kTable),
                                    [&](const TaskEntry& entry) { return entry.CanBeDoneBy(model); });
    if (first != std::end(kTable)) task.set_kind(first->kind);
    if (model.family() == ModelConfig::T5) task.set_kind(TaskConfig::SPAN_CORRUPTION);
  }
  if (!TaskConfig::Kind_IsValid(task.kind()) || task.kind() == TaskConfig::KIND_UNSET) return;
  const TaskEntry& entry = EntryOf(task.kind());
  if (!entry.CanBeDoneBy(model)) return;
  const bool patches = task.kind() == TaskConfig::PATCHES;
  const bool images = patches || task.kind() == TaskConfig::IMAGE_CLASSES;
  const bool masks = patches || task.kind() == TaskConfig::MASKED_TOKEN || task.kind() == TaskConfig::SPAN_CORRUPTION;
  if (!task.has_mask_rate() && masks) task.set_mask_rate(patches ? 0.75f : 0.15f);
  if (!task.has_mean_span() && task.kind() == TaskConfig::SPAN_CORRUPTION) task.set_mean_span(3);
  if (task.first_symbol() == 0 && model.vocabulary() > SymbolsOf(*config)) {
    task.set_first_symbol(model.vocabulary() - SymbolsOf(*config));
  }
  if (images) {
    if (!task.has_crop()) task.set_crop(patches ? 0.2f : 1);
    if (!task.has_pixel_mean()) task.set_pixel_mean(0.5f);
    if (!task.has_pixel_deviation()) task.set_pixel_deviation(0.5f);
  }
  if (model.head() == ModelConfig::HEAD_UNSET) model.set_head(entry.head);
  if (images && model.channels() == 0) model.set_channels(3);
  if (images && model.sequence_length() == 0) {
    model.set_sequence_length(static_cast<int32_t>(ImagePlaces(model) - (patches ? MaskedPatches(*config) : 0)));
  }
  if (model.decoder_length() == 0) {
    if (patches) model.set_decoder_length(static_cast<int32_t>(ImagePlaces(model)));
    if (task.kind() == TaskConfig::TRANSLATION) model.set_decoder_length(model.sequence_length());
    if (task.kind() == TaskConfig::SPAN_CORRUPTION) {
      const absl::StatusOr<SpanCounts> spans = SpansOf(*config);
      if (spans.ok()) model.set_decoder_length(static_cast<int32_t>(spans->targets));
    }
  }
  if (model.targets() >= 0 && TargetsOf(*config) > 0) model.set_targets(static_cast<int32_t>(TargetsOf(*config)));
}

void CheckTask(const RunConfig& config, Rules& rules) {
  const TaskConfig& task = config.task();
  const ModelConfig& model = config.model();
  if (!rules.Good("model.family") || !HasFamily(model)) return;
  const std::string family = ModelConfig::Family_Name(model.family());
  if (!TaskConfig::Kind_IsValid(task.kind()) || task.kind() == TaskConfig::KIND_UNSET ||
      !EntryOf(task.kind()).CanBeDoneBy(model)) {
    rules.Bad("task.kind", absl::StrCat(TaskConfig::Kind_Name(task.kind()), ", which ", family,
                                        " cannot do; legal: ", KindsOf(model)));
    return;
  }
  const TaskEntry& entry = EntryOf(task.kind());
  if (config.data().mask_documents() && rules.Good("data.mask_documents")) {
    std::string why;
    if (task.kind() != TaskConfig::NEXT_TOKEN) {
      why = "with task.kind " + TaskConfig::Kind_Name(task.kind()) + ", whose samples are no running text";
    }
    if (StructureOf(model) != kDecoder) why = "for " + family + ", which has no causal attention";
    if (!why.empty()) rules.Broken("data.mask_documents: true, must be false ", why, "; nearest legal: false");
  }
  if (rules.Good("model.head") && model.head() != entry.head) {
    rules.Broken("model.head: ", ModelConfig::Head_Name(model.head()), ", must be ", ModelConfig::Head_Name(entry.head),
                 " with task.kind ", TaskConfig::Kind_Name(task.kind()), "; leave it out");
  }
  if (rules.Good("model.targets", "model.sequence_length", "model.decoder_length") &&
      model.targets() != TargetsOf(config)) {
    rules.Broken("model.targets: ", model.targets(), ", must be ", TargetsOf(config), " with task.kind ",
                 TaskConfig::Kind_Name(task.kind()), "; leave it out");
  }
  if (StructureOf(model) == kVision && rules.Good("model.image_size", "model.patch_size")) {
    const int64_t places = ImagePlaces(model), seen = places - (model.head() == ModelConfig::PATCHES ? MaskedPatches(config) : 0);
    if (rules.Good("model.sequence_length") && model.sequence_length() != seen) {
      rules.Broken("model.sequence_length: ", model.sequence_length(), ", must be ", seen,
                   ", the patches that are seen and the class token; leave it out");
    }
    if (rules.Good("model.decoder_length") && model.head() == ModelConfig::PATCHES && model.decoder_length() != places) {
      rules.Broken("model.decoder_length: ", model.decoder_length(), ", must be ", places,
                   ", all patches and the class token; leave it out");
    }
  }
  if (task.has_mask_rate() && !(task.mask_rate() > 0 && task.mask_rate() < 1)) {
    rules.Bad("task.mask_rate", absl::StrCat(task.mask_rate(), ", must be above 0 and below 1; nearest legal: 0.15"));
  }
  rules.Share("task.label_smoothing", task.label_smoothing(), false);
  if (model.head() == ModelConfig::CLASSES && rules.Good("model.classes") && task.class_names_size() > model.classes()) {
    rules.Bad("task.class_names", absl::StrCat(task.class_names_size(), " of them, but model.classes is ", model.classes(),
                                               "; nearest legal: model.classes ", task.class_names_size()));
  }
  if (task.has_crop() && !(task.crop() > 0 && task.crop() <= 1)) {
    rules.Bad("task.crop", absl::StrCat(task.crop(), ", must be above 0 and at most 1; nearest legal: 1"));
  }
  if (task.has_pixel_deviation()) rules.Positive("task.pixel_deviation", task.pixel_deviation(), "0.5");
  if (task.kind() == TaskConfig::MASKED_TOKEN && rules.Good("model.sequence_length") && model.sequence_length() < 4) {
    rules.Broken("model.sequence_length: ", model.sequence_length(),
                 ", must be at least 4 with task.kind MASKED_TOKEN; nearest legal: 4");
  }
  if (task.kind() == TaskConfig::SPAN_CORRUPTION && rules.Good("model.sequence_length", "task.mask_rate")) {
    const absl::StatusOr<SpanCounts> spans = SpansOf(config);
    if (!spans.ok()) {
      rules.Bad("task.mean_span", absl::StrCat(task.mean_span(), " with task.mask_rate ", task.mask_rate(),
                                               " and model.sequence_length ", model.sequence_length(), ": ",
                                               spans.status().message()));
    } else if (rules.Good("model.decoder_length") && model.decoder_length() != spans->targets) {
      rules.Broken("model.decoder_length: ", model.decoder_length(), ", must be ", spans->targets,
                   ", what spans cut out of such texts come to; leave it out");
    }
  }
  if (config.training().early_stop().by() == EarlyStopConfig::ACCURACY && rules.Good("model.head") &&
      !HasAccuracy(model)) {
    rules.Broken("training.early_stop.by: ACCURACY, which task.kind ", TaskConfig::Kind_Name(task.kind()), " of ",
                 family, " has none of; nearest legal: LOSS");
  }
  if (task.crop_padding() > 0 && task.crop() < 1) {
    rules.Broken("task.crop_padding: ", task.crop_padding(), " and task.crop ", task.crop(),
                 ": one of them at most; nearest legal: crop 1");
  }
  if (rules.Good("model.vocabulary") && model.vocabulary() > 0 &&
      task.first_symbol() + SymbolsOf(config) > model.vocabulary()) {
    rules.Broken("model.vocabulary: ", model.vocabulary(), ", must be at least ", task.first_symbol() + SymbolsOf(config),
                 ": task.first_symbol ", task.first_symbol(), " and the ", SymbolsOf(config), " symbols of task.kind ",
                 TaskConfig::Kind_Name(task.kind()), "; nearest legal: ", task.first_symbol() + SymbolsOf(config));
  }
}

int32_t SymbolsOf(const RunConfig& config) {
  const ModelConfig& model = config.model();
  if (!HasFamily(model)) return 0;
  if (StructureOf(model) == Recipe::Structure::kEncoder) return static_cast<int32_t>(kEncoderTokens);
  const bool texts = config.task().kind() == TaskConfig::TEXT_CLASSES ||
                     config.task().kind() == TaskConfig::TOKEN_CLASSES || config.task().kind() == TaskConfig::TEXT_VALUE;
  if (texts) return static_cast<int32_t>(kEncoderTokens);
  // Whatever the length needs, so that models of several lengths share a vocabulary.
  return model.family() == ModelConfig::T5 || config.task().kind() == TaskConfig::SPAN_CORRUPTION
             ? static_cast<int32_t>(kSentinels)
             : 0;
}

bool HasWeights(const RunConfig& config) {
  const TaskConfig& task = config.task();
  return EntryOf(task.kind()).weights || config.data().mask_documents() ||
         (task.kind() == TaskConfig::MASKED_TOKEN && task.whole_words());
}

bool ShortensBatches(const RunConfig& config) {
  const TaskConfig::Kind kind = config.task().kind();
  return (kind == TaskConfig::TRANSLATION || kind == TaskConfig::TEXT_CLASSES || kind == TaskConfig::TEXT_VALUE) &&
         config.runtime().graphs() != RuntimeConfig::ON;
}

SampleLengths SampleLengthsOf(const RunConfig& config) {
  return {.inputs = config.model().sequence_length(), .decoder = config.model().decoder_length()};
}

RunConfig WithLengths(RunConfig config, const SampleLengths& lengths) {
  ModelConfig& model = *config.mutable_model();
  model.set_sequence_length(static_cast<int32_t>(lengths.inputs));
  model.set_decoder_length(static_cast<int32_t>(lengths.decoder));
  model.set_targets(static_cast<int32_t>(TargetsOf(config)));
  return config;
}

bool HasAccuracy(const ModelConfig& model) {
  return model.head() == ModelConfig::CLASSES || (model.head() == ModelConfig::TOKENS && RecipeOf(model).transform);
}

Batch ZeroBatch(const RunConfig& config, int64_t samples, bool weighted) {
  const ModelConfig& model = config.model();
  const TaskEntry& entry = EntryOf(config.task().kind());
  const int64_t length = model.sequence_length(), decoder = model.decoder_length(), targets = model.targets();
  Batch batch = {.samples = samples, .length = length};
  const bool vision = StructureOf(model) == kVision, pair = StructureOf(model) == kEncoderDecoder;
  if (vision) {
    batch.patches = HostTensor::Zeros(DType::kFloat32, {samples, length, PatchValues(model)});
    batch.patch_places = Counted({samples, length}, 0);
  } else {
    batch.inputs = Ids({samples, length});
  }
  if (entry.lengths) batch.lengths = Ids({samples}, static_cast<int32_t>(length));
  if (config.data().mask_documents()) batch.document_starts = Ids({samples, length});
  if (entry.segments) batch.segments = Ids({samples, length});
  if (pair) batch.decoder_inputs = Ids({samples, decoder});
  if (model.head() == ModelConfig::TOKENS || model.head() == ModelConfig::CLASSES) {
    batch.targets = Ids({samples, targets});
  } else {
    const int64_t values = model.head() == ModelConfig::PATCHES ? PatchValues(model) : 1;
    batch.values = HostTensor::Zeros(DType::kFloat32, {samples, targets, values});
  }
  // Masked patches lie behind the visible ones here.
  const bool patches = model.head() == ModelConfig::PATCHES;
  if (entry.places) batch.places = Counted({samples, targets}, patches ? static_cast<int32_t>(length) : 0);
  if (weighted) batch.weights = HostTensor::Zeros(DType::kFloat32, {samples, targets});
  return batch;
}

}  // namespace trefoil
