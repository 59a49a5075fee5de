#include "launcher/commands/commands.h"

#include <absl/strings/str_cat.h>
#include <gflags/gflags.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <utility>
#include <vector>

#include "launcher/cluster/machine.h"
#include "launcher/config/config.h"
#include "launcher/flags/batch.h"
#include "launcher/flags/input.h"
#include "launcher/flags/json.h"
#include "launcher/flags/output.h"
#include "launcher/flags/text.h"
#include "launcher/flags/tokens.h"
#include "launcher/flags/top.h"
#include "launcher/given_flags.h"
#include "launcher/prediction/prediction.h"
#include "launcher/prepare.h"
#include "launcher/trained_model.h"
#include "parallel/collectives/world.h"
#include "parallel/same_on_ranks.h"
#include "runtime/files/file.h"
#include "runtime/host/cpu_features.h"
#include "training/tasks/tasks.h"

DEFINE_int64(beam, 0,
             "Of texts that are written, beginnings in hand at a time; 1: always the likeliest token. 0: 4 of "
             "translations, 1 of what continues a text.");
DEFINE_double(length_penalty, 0.6, "Of texts that are written: 0 prefers short ones, 1 goes by the mean of a token.");

namespace trefoil {
namespace {

template <typename... Parts>
absl::Status Bad(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

bool Writes(TaskConfig::Kind kind) {
  return kind == TaskConfig::TRANSLATION || kind == TaskConfig::SPAN_CORRUPTION || kind == TaskConfig::NEXT_TOKEN ||
         kind == TaskConfig::ANSWERS;
}

absl::Status CheckFlags(const std::vector<std::string>& inputs) {
  if (inputs.empty() && !IsGiven("text")) return Bad("--input: missing; give files, or a text with --text");
  if (!inputs.empty() && IsGiven("text")) return Bad("--text: files are given as well; leave one out");
  if (FLAGS_batch < 1) return Bad("--batch: ", FLAGS_batch, ", must be at least 1; nearest legal: 1");
  if (FLAGS_beam < 0) return Bad("--beam: ", FLAGS_beam, ", must be at least 1, or 0; nearest legal: 1");
  if (FLAGS_top < 0) return Bad("--top: ", FLAGS_top, ", must be at least 1, or 0; nearest legal: 1");
  if (FLAGS_tokens < 1) return Bad("--tokens: ", FLAGS_tokens, ", must be at least 1; nearest legal: 1");
  if (!(FLAGS_length_penalty >= 0)) {
    return Bad("--length_penalty: ", FLAGS_length_penalty, ", must be 0 or more; nearest legal: 0");
  }
  return absl::OkStatus();
}

// What the run was trained on, as its config says. A checkpoint may be of before the config was changed.
absl::StatusOr<TaskConfig> TaskOf(FileSystem& fs, const TrainedModel& trained) {
  const std::string path = trained.run + "/config.pbtxt";
  TREFOIL_ASSIGN_OR_RETURN(const RunConfig config, ReadConfig(fs, path, {}));
  const TaskConfig::Kind kind = config.task().kind();
  const bool fits = kind != TaskConfig::KIND_UNSET && EntryOf(kind).CanBeDoneBy(trained.model()) &&
                    EntryOf(kind).head == trained.model().head();
  if (fits) return config.task();
  return Bad(path, ": task.kind ", TaskConfig::Kind_Name(kind), ", which the ",
             ModelConfig::Family_Name(trained.model().family()), " of ", trained.checkpoint, " with head ",
             ModelConfig::Head_Name(trained.model().head()), " does not do; give the checkpoint's own run");
}

// What the task makes of the flags.
absl::StatusOr<PredictionOptions> OptionsFor(TaskConfig::Kind kind, const ModelConfig& model) {
  const bool translates = kind == TaskConfig::TRANSLATION || kind == TaskConfig::SPAN_CORRUPTION;
  for (const char* flag : {"beam", "length_penalty", "tokens"}) {
    if (Writes(kind) || !IsGiven(flag)) continue;
    return Bad("--", flag, ": is about texts that a model writes, and this one was trained for ",
               TaskConfig::Kind_Name(kind), "; leave it out");
  }
  PredictionOptions options = {.batch = FLAGS_batch, .top = std::max(FLAGS_top, 1), .json = FLAGS_json};
  options.beam = FLAGS_beam > 0 ? FLAGS_beam : translates ? 4 : 1;
  options.length_penalty = FLAGS_length_penalty;
  options.tokens = translates && !IsGiven("tokens") ? 0 : FLAGS_tokens;
  if (options.tokens >= model.decoder_length() && translates) {
    return Bad("--tokens: ", options.tokens, ", more than the model's decoder writes; nearest legal: ",
               model.decoder_length() - 1);
  }
  if (!Writes(kind) || options.top <= options.beam) return options;
  return Bad("--top: ", options.top, ", more than --beam, ", options.beam, "; nearest legal: ", options.beam);
}

absl::StatusOr<Predictions> PredictAll(const PredictionJob& job, FileSystem& fs,
                                       const std::vector<std::string>& inputs) {
  const TaskConfig::Kind kind = job.task.kind();
  if (kind == TaskConfig::IMAGE_CLASSES) {
    if (inputs.empty()) return Bad("--text: the model reads images; give files");
    return PredictImages(job, fs, inputs);
  }
  std::vector<Example> examples;
  if (inputs.empty()) {
    TREFOIL_ASSIGN_OR_RETURN(Example example, ExampleOf(FLAGS_text, "--text"));
    examples.push_back(std::move(example));
  } else {
    TREFOIL_ASSIGN_OR_RETURN(examples, ReadExamples(fs, inputs, kind, *job.tokenizer));
  }
  if (Writes(kind)) return PredictWritten(job, std::move(examples));
  return kind == TaskConfig::MASKED_TOKEN ? PredictMasks(job, std::move(examples))
                                          : PredictLabels(job, std::move(examples));
}

absl::Status Predict(FileSystem& fs, World& world, const std::vector<std::string>& inputs) {
  TREFOIL_RETURN_IF_ERROR(CheckSameOnRanks(world.all(), CommandLineFacts(inputs)));
  TREFOIL_RETURN_IF_ERROR(CheckFlags(inputs));
  TREFOIL_RETURN_IF_ERROR(world.all().Agree(CheckCpuLevel()));
  if (world.size() > 1 && std::find(inputs.begin(), inputs.end(), "-") != inputs.end()) {
    return Bad("--input: -, standard input, is read by one rank, and there are ", world.size(), "; give a file");
  }
  const bool first = world.rank() == 0;
  TREFOIL_RETURN_IF_ERROR(world.all().Agree(first && !FLAGS_output.empty() && fs.Exists(FLAGS_output)
                                                ? Bad("--output: ", FLAGS_output, " is there already")
                                                : absl::OkStatus()));
  const std::unique_ptr<Device> device = OpenCpu(RuntimeConfig(), world.local_size());
  const auto check = [](const std::string& path, const ModelConfig& model) -> absl::Status {
    if (model.head() != ModelConfig::PATCHES) return absl::OkStatus();
    return Bad("--checkpoint: ", path,
               " has learnt the pixels of hidden patches, of which there is nothing to say; train it ",
               "further on IMAGE_CLASSES");
  };
  TREFOIL_ASSIGN_OR_RETURN(TrainedModel trained, LoadTrainedModel(fs, "predict", check, Copies::kNone, world, *device));
  TREFOIL_ASSIGN_OR_RETURN(const TaskConfig task, TaskOf(fs, trained));
  TREFOIL_ASSIGN_OR_RETURN(const PredictionOptions options, OptionsFor(task.kind(), trained.model()));
  const PredictionJob job = {.options = options,
                             .task = task,
                             .predictor = *trained.predictor,
                             .tokenizer = trained.tokenizer ? &*trained.tokenizer : nullptr};
  TREFOIL_ASSIGN_OR_RETURN(const Predictions predictions, PredictAll(job, fs, inputs));
  if (!first) return absl::OkStatus();
  std::string lines;
  for (const std::string& line : predictions.lines) absl::StrAppend(&lines, line, "\n");
  if (FLAGS_output.empty()) {
    std::cout << lines << std::flush;
  } else {
    TREFOIL_RETURN_IF_ERROR(WriteFileAtomically(fs, FLAGS_output, lines));
  }
  for (const std::string& note : predictions.notes) std::cerr << "trefoil predict: note: " << note << "\n";
  for (const std::string& score : predictions.scores) std::cerr << score << "\n";
  return absl::OkStatus();
}

}  // namespace

int PredictMain(int argc, char** argv) {
  const std::unique_ptr<World> world = NewMpiWorld(&argc, &argv);
  std::vector<std::string> inputs(argv + 1, argv + argc);
  if (!FLAGS_input.empty()) inputs.insert(inputs.begin(), FLAGS_input);
  const absl::Status status = Predict(FileSystem::Posix(), *world, inputs);
  return status.ok() ? 0 : Fail("predict", status, world->rank() == 0);
}

}  // namespace trefoil
