#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <gflags/gflags.h>
#include <google/protobuf/text_format.h>

#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/directory.h"
#include "data/tokens/tokenizer_files.h"
#include "exchange/import_model.h"
#include "launcher/commands/commands.h"
#include "launcher/config/config.h"
#include "launcher/flags/from_to.h"
#include "launcher/given_flags.h"
#include "launcher/prediction/golden_check.h"
#include "launcher/prepare.h"
#include "launcher/report/progress.h"
#include "model/model.h"
#include "model/model_text.h"
#include "parallel/collectives/world.h"
#include "parallel/same_on_ranks.h"
#include "runtime/device.h"
#include "runtime/number_text.h"
#include "runtime/version.h"
#include "training/config/validate.h"
#include "training/inference/predictor.h"
#include "training/saving/resume.h"
#include "training/trainer_state.pb.h"

DEFINE_string(ignore, "",
              "Fields of config.json, commas between, that are not understood and that you know to change nothing.");
DEFINE_bool(
    check, false,
    "Compare what the imported model says, in float32, with golden.safetensors in its folder, and fail if it is "
    "not the same within 1e-4.");

namespace trefoil {
namespace {

constexpr double kTolerance = 1e-4;

absl::Status CheckFlags() {
  if (FLAGS_from.empty())
    return absl::InvalidArgumentError("--from: missing; give a folder with a model, or a .gguf file");
  if (FLAGS_to.empty()) return absl::InvalidArgumentError("--to: missing; give a folder for the run");
  return absl::OkStatus();
}

std::string GoldenPath() { return FLAGS_from + "/" + kGoldenFile; }

// What a run of the model has, filled; and the model of `foreign` with it.
absl::StatusOr<RunConfig> RunOf(ForeignModel* foreign) {
  RunConfig config;
  config.set_folder(FLAGS_to);
  *config.mutable_model() = foreign->model;
  TaskConfig::Kind kind;
  CHECK(TaskConfig::Kind_Parse(foreign->task, &kind)) << foreign->task;
  config.mutable_task()->set_kind(kind);
  for (const std::string& name : foreign->class_names) config.mutable_task()->add_class_names(name);
  RunConfig filled = config;
  FillDefaults(&filled, /*ranks=*/1, {});
  std::vector<std::string> wrong;
  for (const std::string& line : Violations(filled, /*ranks=*/1)) {
    if (line.starts_with("model.")) wrong.push_back(line);
  }
  if (!wrong.empty()) return absl::InvalidArgumentError(absl::StrJoin(wrong, "\n"));
  foreign->model = *config.mutable_model() = filled.model();
  return config;
}

// None: the model has none here.
absl::StatusOr<TokenizerFiles> TokenizerOf(FileSystem& fs, const ImportSource& source) {
  if (!source.tokenizer_json.empty()) {
    return TokenizerFiles{
        .json = true, .content = source.tokenizer_json, .config = source.tokenizer_config, .chat_template = ""};
  }
  const std::string path = TokenizerIn(fs, source.path);
  if (path.empty()) return TokenizerFiles();
  return ReadTokenizerFiles(fs, path);
}

// On rank 0: what lies beside the checkpoint.
absl::Status WriteBeside(FileSystem& fs, const ImportSource& source, RunConfig config, std::string* tokenizer_hash) {
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> there, CompleteCheckpoints(fs, FLAGS_to + "/checkpoints"));
  if (!there.empty()) {
    return absl::AlreadyExistsError("--to: " + FLAGS_to + " has checkpoints already; give another folder");
  }
  TREFOIL_RETURN_IF_ERROR(MakeFolderDurably(fs, FLAGS_to));
  TREFOIL_ASSIGN_OR_RETURN(const TokenizerFiles tokenizer, TokenizerOf(fs, source));
  if (!tokenizer.empty()) {
    TREFOIL_RETURN_IF_ERROR(WriteTokenizerFiles(fs, FLAGS_to, tokenizer));
    config.mutable_data()->set_tokenizer(TokenizerIn(fs, FLAGS_to));
    *tokenizer_hash = tokenizer.checksum();
  }
  // How text is drawn from it, and what ends it.
  if (const std::string drawing = source.path + "/generation_config.json"; fs.Exists(drawing)) {
    TREFOIL_ASSIGN_OR_RETURN(const std::string text, ReadFile(fs, drawing));
    TREFOIL_RETURN_IF_ERROR(WriteFileAtomically(fs, FLAGS_to + "/generation_config.json", text));
  } else if (const std::vector<int32_t>& ends = source.foreign.end_of_text; !ends.empty()) {
    const std::string text = absl::StrCat("{\"eos_token_id\": [", absl::StrJoin(ends, ", "), "]}\n");
    TREFOIL_RETURN_IF_ERROR(WriteFileAtomically(fs, FLAGS_to + "/generation_config.json", text));
  }
  return WriteFileAtomically(fs, FLAGS_to + "/config.pbtxt",
                             "# A model that `trefoil import` has made of " + FLAGS_from + ".\n" + ConfigText(config));
}

// On every rank, which has loaded the model; rank 0 compares.
absl::Status Check(FileSystem& fs, World& world, const ModelConfig& model) {
  const std::unique_ptr<Device> device = NewCpuDevice(/*threads=*/1);
  Predictor predictor(model, {}, world, *device);
  TREFOIL_RETURN_IF_ERROR(predictor.Load(fs, CheckpointPath(FLAGS_to + "/checkpoints", 0)));
  absl::Status status;
  if (world.rank() == 0) {
    const absl::StatusOr<GoldenComparison> compared = CompareWithGolden(fs, GoldenPath(), predictor);
    status = compared.status();
    if (status.ok()) {
      std::cout << "check     " << compared->rows << " rows of " << GoldenPath() << ": "
                << absl::StrFormat("log-probabilities differ by %.2g at most (%s)\n", compared->difference,
                                   compared->where);
      if (!(compared->difference <= kTolerance)) {
        status = absl::FailedPreconditionError(
            absl::StrFormat("--check: what the model says differs by %.3g, at %s, must be within %g",
                            compared->difference, compared->where, kTolerance));
      }
    }
  }
  return world.all().Agree(status);
}

void Summarise(const ImportSource& source, const ImportSummary& summary, const RunConfig& config) {
  std::cout << "model     " << ModelInWords(source.foreign.model) << "\n"
            << "weights   " << ShortCount(static_cast<double>(summary.parameters)) << " of " << summary.tensors
            << " tensors, as float32\n";
  if (!summary.ignored.empty()) std::cout << "left out  " << absl::StrJoin(summary.ignored, ", ") << "\n";
  if (!summary.missing.empty()) {
    std::cout << "new       " << absl::StrJoin(summary.missing, ", ")
              << ": the model has no head; for training.checkpoint.initial_weights, which draws one\n";
  }
  std::cout << "task      " << TaskConfig::Kind_Name(config.task().kind()) << "\n"
            << "written   " << CheckpointPath(FLAGS_to + "/checkpoints", 0) << std::endl;
}

absl::Status Import(FileSystem& fs, World& world) {
  Group& all = world.all();
  TREFOIL_RETURN_IF_ERROR(CheckFlags());
  absl::StatusOr<ImportSource> source =
      OpenImport(fs, FLAGS_from, absl::StrSplit(FLAGS_ignore, ',', absl::SkipEmpty()));
  TREFOIL_RETURN_IF_ERROR(all.Agree(source.status()));
  const absl::StatusOr<RunConfig> config = RunOf(&source->foreign);
  TREFOIL_RETURN_IF_ERROR(config.status());
  if (FLAGS_check && !fs.Exists(GoldenPath())) {
    return absl::NotFoundError("--check: " + GoldenPath() + " does not exist; leave --check out");
  }
  TrainerState state;
  state.set_program_version(VersionText());
  absl::Status status;
  if (world.rank() == 0) status = WriteBeside(fs, *source, *config, state.mutable_tokenizer());
  TREFOIL_RETURN_IF_ERROR(all.Agree(status));

  CheckpointContent content;
  content.model = ModelText(source->foreign.model);
  google::protobuf::TextFormat::PrintToString(state, &content.trainer_state);
  content.owner = "import";
  std::optional<ProgressBar> bar;
  int64_t shown = 0;
  const auto progress = [&](int64_t done, int64_t total) {
    if (world.rank() != 0) return;
    if (!bar.has_value()) bar.emplace("importing", total * 4, world.size());
    bar->Add((done - shown) * 4);
    shown = done;
  };
  ImportSummary summary;
  TREFOIL_RETURN_IF_ERROR(ImportWeights(fs, all, *source, DeclareModel(source->foreign.model),
                                        FLAGS_to + "/checkpoints", content, progress, &summary));
  if (bar.has_value()) bar->Finish();
  if (world.rank() == 0) Summarise(*source, summary, *config);
  return FLAGS_check ? Check(fs, world, source->foreign.model) : absl::OkStatus();
}

}  // namespace

int ImportMain(int argc, char** argv) {
  const std::unique_ptr<World> world = NewMpiWorld(&argc, &argv);
  absl::Status status = CheckSameOnRanks(world->all(), CommandLineFacts({}));
  if (status.ok()) status = Import(FileSystem::Posix(), *world);
  return status.ok() ? 0 : Fail("import", status, /*speak=*/world->rank() == 0);
}

}  // namespace trefoil
