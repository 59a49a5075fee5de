#include <absl/strings/str_cat.h>
#include <gflags/gflags.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "data/tasks/special_tokens.h"
#include "data/tasks/text_inputs.h"
#include "launcher/cluster/machine.h"
#include "launcher/commands/commands.h"
#include "launcher/config/config.h"
#include "launcher/flags/checkpoint.h"
#include "launcher/flags/output.h"
#include "launcher/flags/samples.h"
#include "launcher/flags/text.h"
#include "launcher/given_flags.h"
#include "launcher/prediction/lines.h"
#include "launcher/prediction/pictures.h"
#include "launcher/prepare.h"
#include "launcher/trained_model.h"
#include "model/families/recipe.h"
#include "model/patches.h"
#include "parallel/collectives/world.h"
#include "runtime/host/cpu_features.h"
#include "training/config/validate.h"
#include "training/explain/attention_weights.h"
#include "training/explain/positions.h"
#include "training/inference/search.h"
#include "training/run_data.h"
#include "training/saving/newest_checkpoint.h"
#include "training/saving/resume.h"
#include "training/tasks/task_data.h"

DEFINE_string(show, "",
              "losses: the mean loss of each token of a sample, by its place; gradients: how much of the last token's loss gets "
              "back to the tokens before it; attention: the weights of each layer and head for --text or --image.");
DEFINE_string(image, "", "Of attention, a picture in place of --text.");
DEFINE_string(data, "", "Of losses and gradients: token files or records. Empty: the run's data.held_out.");

namespace trefoil {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kAtOnce = 8;  // samples

template <typename... Parts>
absl::Status Bad(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

absl::Status CheckFlags() {
  const bool attention = FLAGS_show == "attention";
  if (!attention && FLAGS_show != "losses" && FLAGS_show != "gradients") {
    return Bad("--show: '", FLAGS_show, "', must be losses, gradients or attention");
  }
  for (const char* flag : {"samples", "data"}) {
    if (attention && IsGiven(flag)) return Bad("--", flag, ": is about losses and gradients; leave it out");
  }
  for (const char* flag : {"text", "image"}) {
    if (!attention && IsGiven(flag)) return Bad("--", flag, ": is about attention; leave it out");
  }
  if (attention && FLAGS_text.empty() == FLAGS_image.empty()) {
    return Bad("--text: ", FLAGS_text.empty() ? "missing; give a text, or --image a picture, to show the attention of"
                                              : "--image is given as well; leave one out");
  }
  if (FLAGS_samples < 0) return Bad("--samples: ", FLAGS_samples, ", must be at least 1, or 0; nearest legal: 1");
  return absl::OkStatus();
}

int64_t SamplesAsked() { return FLAGS_samples > 0 ? FLAGS_samples : 256; }

// The run on one rank, on samples that are held out.
absl::StatusOr<RunConfig> OneRank(FileSystem& fs, const std::string& run, const std::string& checkpoint) {
  TREFOIL_ASSIGN_OR_RETURN(RunConfig config, ReadConfig(fs, run + "/config.pbtxt", {}));
  if (config.task().kind() != TaskConfig::NEXT_TOKEN && config.task().kind() != TaskConfig::ANSWERS) {
    return Bad("--checkpoint: ", checkpoint, " was trained for ", TaskConfig::Kind_Name(config.task().kind()),
               "; losses and gradients by place are of NEXT_TOKEN and ANSWERS");
  }
  if (!FLAGS_data.empty()) {
    config.mutable_data()->clear_held_out();
    config.mutable_data()->add_held_out(FLAGS_data);
  }
  if (config.data().held_out().empty()) return Bad("--data: missing, and the run has no data.held_out");
  config.clear_parallel();
  config.mutable_model()->set_dropout(0);
  TrainingConfig& training = *config.mutable_training();
  const auto batch = static_cast<int32_t>(std::min(kAtOnce, SamplesAsked()));
  training.set_global_batch(batch);
  training.set_micro_batch(batch);
  training.set_gradient_groups(1);
  // Gradients are to come to the first block, frozen or not.
  training.mutable_fine_tuning()->clear_frozen_layers();
  training.mutable_fine_tuning()->clear_freeze();
  training.set_precision(TrainingConfig::FP32);
  config.mutable_runtime()->set_graphs(RuntimeConfig::OFF);
  FillDefaults(&config, /*ranks=*/1, {});
  return config;
}

absl::StatusOr<Json> ByPlace(FileSystem& fs, World& world, Device& device) {
  if (FLAGS_checkpoint.empty()) return Bad("--checkpoint: missing; give a run's folder");
  TREFOIL_ASSIGN_OR_RETURN(const CheckpointPlace place, FindTrained(fs, FLAGS_checkpoint));
  const std::string& checkpoint = place.checkpoints.front();
  TREFOIL_ASSIGN_OR_RETURN(const RunConfig config, OneRank(fs, place.run, checkpoint));
  TREFOIL_ASSIGN_OR_RETURN(const TaskData data, OpenTaskData(config, TaskData::Part::kHeldOut));
  const int64_t batch = config.training().global_batch();
  const int64_t samples = std::min(SamplesAsked(), data.samples->samples()) / batch * batch;
  if (samples == 0) {
    return Bad("--data: ", config.data().held_out(0), " has ", data.samples->samples(), " samples, must have at least ", batch,
               "; nearest legal: --samples=1");
  }
  Worker worker(config, world, device);
  TREFOIL_RETURN_IF_ERROR(LoadCheckpoint(fs, worker, checkpoint, /*weights_only=*/true).status());
  const BatchSource source = ReadAhead(config, *data.samples, samples);
  const bool losses = FLAGS_show == "losses";
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<double> values, losses ? LossByPosition(worker, source, samples)
                                                                    : GradientByDistance(worker, source, samples));
  return Json{{"checkpoint", checkpoint},
              {"family", ModelConfig::Family_Name(config.model().family())},
              {"parameters", worker.table.elements()},
              {"samples", samples},
              {losses ? "loss_by_position" : "gradient_by_distance", values}};
}

// What each token spells; of those that spell nothing a name.
std::vector<std::string> PiecesOf(const Tokenizer& tokenizer, const SpecialTokens& special, const std::vector<int32_t>& ids) {
  std::vector<std::string> pieces;
  for (const int32_t id : ids) {
    if (id == tokenizer.end_of_text()) {
      pieces.push_back("[end]");
    } else if (id >= tokenizer.vocabulary()) {
      pieces.push_back(id == special.begin ? "[CLS]" : "[SEP]");
    } else {
      pieces.push_back(tokenizer.Decode(std::span(&id, 1)));
    }
  }
  return pieces;
}

HostTensor Row(const std::vector<int32_t>& ids) { return HostTensor(ids, {1, static_cast<int64_t>(ids.size())}); }

// Runs the network on the text, whatever it reads: names of what queries and keys are, for the picture.
absl::StatusOr<Json> RunOn(const std::string& text, const TaskConfig& task, TrainedModel& trained) {
  Tokenizer& tokenizer = *trained.tokenizer;
  Predictor& predictor = *trained.predictor;
  const auto longest = static_cast<size_t>(trained.model().sequence_length());
  std::vector<int32_t> ids = tokenizer.Encode(text);
  const auto check = [&](size_t more) -> absl::Status {
    if (ids.empty()) return Bad("--text: has no token; this tokenizer leaves out all of it");
    if (ids.size() + more <= longest) return absl::OkStatus();
    return Bad("--text: ", ids.size(), " tokens, must be at most ", longest - more, ", what the model reads");
  };
  const SpecialTokens special = EncoderTokens(task.end_of_text(), task.first_symbol());
  const auto pieces = [&](const std::vector<int32_t>& tokens) { return PiecesOf(tokenizer, special, tokens); };
  const Recipe::Structure structure = RecipeOf(trained.model()).structure;
  if (structure == Recipe::Structure::kDecoder) {
    const std::vector<int32_t> before = tokenizer.before_text();
    ids.insert(ids.begin(), before.begin(), before.end());
    TREFOIL_RETURN_IF_ERROR(check(0));
    const Prefix prefix = {.text = 0, .ids = ids};
    predictor.Next(std::span(&prefix, 1));
    return Json{{"tokens", pieces(ids)}};
  }
  if (structure == Recipe::Structure::kEncoder) {
    TREFOIL_RETURN_IF_ERROR(check(2));
    const TextPair whole = {.text = ids, .pair = {}};
    Batch batch = TextInputs(std::span(&whole, 1), special, static_cast<int64_t>(ids.size()) + 2);
    batch.places = Row({0});
    batch.targets = Row({0});
    predictor.Outputs(batch);
    return Json{{"tokens", pieces(batch.inputs.values<int32_t>())}};
  }
  TREFOIL_RETURN_IF_ERROR(check(1));
  const BeamOptions greedy = {.beam = 1, .end = tokenizer.end_of_text(), .vocabulary = tokenizer.vocabulary()};
  AttentionProbe probe = predictor.Watch(nullptr);
  const Tokens written = Translate(predictor, std::span(&ids, 1), greedy).front().front().ids;
  predictor.Watch(std::move(probe));
  ids.push_back(tokenizer.end_of_text());
  Batch batch = {.samples = 1, .length = static_cast<int64_t>(ids.size())};
  batch.inputs = Row(ids);
  const Predictor::Memory memory = predictor.Encode(batch);
  std::vector<int32_t> read = written;
  read.insert(read.begin(), tokenizer.end_of_text());
  const Prefix prefix = {.text = 0, .ids = read};
  predictor.Next(memory, std::span(&prefix, 1));
  // Of the decoder's query t what it is about to write.
  std::vector<int32_t> next = written;
  next.push_back(tokenizer.end_of_text());
  return Json{{"tokens", pieces(ids)},
              {"written", pieces(next)},
              {"translation", tokenizer.Decode(written)}};
}

// The same of a picture.
absl::StatusOr<Json> RunOnPicture(FileSystem& fs, const TaskConfig& task, TrainedModel& trained) {
  const ModelConfig& model = trained.model();
  TREFOIL_ASSIGN_OR_RETURN(const Batch batch, ReadPictures(fs, model, task, std::span(&FLAGS_image, 1)));
  const Rows said = trained.predictor->Outputs(batch);
  const ClassNames names(task, model.classes());
  return Json{{"patches", ImagePatches(model)}, {"predictions", names.Json(Likeliest(said[0], 1, names.size()))}};
}

absl::StatusOr<Json> Attention(FileSystem& fs, World& world, Device& device) {
  const auto check = [](const std::string& path, const ModelConfig& model) -> absl::Status {
    const Recipe::Structure structure = RecipeOf(model).structure;
    const bool sees = structure == Recipe::Structure::kVision;
    if (sees == !FLAGS_image.empty() && structure != Recipe::Structure::kRecurrent &&
        model.head() != ModelConfig::PATCHES) {
      return absl::OkStatus();
    }
    return Bad("--checkpoint: ", path, " is of a ", ModelConfig::Family_Name(model.family()), " with head ",
               ModelConfig::Head_Name(model.head()), ", of which no attention to ",
               FLAGS_image.empty() ? "texts" : "pictures", " can be shown");
  };
  TREFOIL_ASSIGN_OR_RETURN(TrainedModel trained, LoadTrainedModel(fs, "explain", check, Copies::kNone, world, device));
  TREFOIL_ASSIGN_OR_RETURN(const RunConfig config, ReadConfig(fs, trained.run + "/config.pbtxt", {}));
  Json maps = Json::array();
  trained.predictor->Watch([&](const std::string& name, const AttentionShape& shape, const AttentionHeads& heads,
                               const Tensor& log_sum_exp) {
    const AttentionWeights weights = AttentionWeightsOf(device, name, shape, heads, log_sum_exp);
    for (int64_t h = 0; h < weights.heads; ++h) {
      Json rows = Json::array();
      for (int64_t q = 0; q < weights.queries; ++q) {
        std::vector<float> row;
        for (int64_t k = 0; k < weights.keys; ++k) row.push_back(weights.Of(0, h, q, k));
        rows.push_back(std::move(row));
      }
      maps.push_back({{"layer", name}, {"head", h}, {"weights", std::move(rows)}});
    }
  });
  TREFOIL_ASSIGN_OR_RETURN(Json json, FLAGS_image.empty() ? RunOn(FLAGS_text, config.task(), trained)
                                                          : RunOnPicture(fs, config.task(), trained));
  json["checkpoint"] = trained.checkpoint;
  json["maps"] = std::move(maps);
  return json;
}

absl::Status Explain(FileSystem& fs, World& world) {
  TREFOIL_RETURN_IF_ERROR(CheckFlags());
  TREFOIL_RETURN_IF_ERROR(CheckCpuLevel());
  if (!FLAGS_output.empty() && fs.Exists(FLAGS_output)) return Bad("--output: ", FLAGS_output, " is there already");
  const std::unique_ptr<Device> device = OpenCpu(RuntimeConfig(), /*ranks_on_host=*/1);
  TREFOIL_ASSIGN_OR_RETURN(const Json json,
                           FLAGS_show == "attention" ? Attention(fs, world, *device) : ByPlace(fs, world, *device));
  const std::string text = JsonText(json) + "\n";
  if (!FLAGS_output.empty()) return WriteFileAtomically(fs, FLAGS_output, text);
  std::cout << text << std::flush;
  return absl::OkStatus();
}

}  // namespace

int ExplainMain(int, char**) {
  int exit_status = 0;
  // A world of one rank, in this process.
  RunRanksAsThreads(1, [&](World& world) {
    const absl::Status status = Explain(FileSystem::Posix(), world);
    if (!status.ok()) exit_status = Fail("explain", status, /*speak=*/true);
  });
  return exit_status;
}

}  // namespace trefoil
