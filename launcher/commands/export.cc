#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <gflags/gflags.h>

#include <cmath>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/reader.h"
#include "data/tokens/tokenizer.h"
#include "data/tokens/tokenizer_files.h"
#include "exchange/export_model.h"
#include "exchange/tokenizer_out.h"
#include "launcher/commands/commands.h"
#include "launcher/flags/from_to.h"
#include "launcher/flags/overwrite.h"
#include "launcher/given_flags.h"
#include "launcher/prepare.h"
#include "launcher/report/progress.h"
#include "launcher/staged_output.h"
#include "model/families/recipe.h"
#include "parallel/collectives/world.h"
#include "parallel/same_on_ranks.h"
#include "runtime/number_text.h"
#include "training/saving/newest_checkpoint.h"
#include "training/saving/resume.h"

DEFINE_string(dtype, "f32", "Of the weights: f32, as they are in a checkpoint; bf16 or f16, rounded to the nearest.");
DEFINE_double(shard_gb, 5, "Files of weights have at most so many GB (10^9 bytes), unless one tensor has more.");

namespace trefoil {
namespace {

absl::StatusOr<ExportOptions> OptionsOf() {
  if (FLAGS_from.empty()) return absl::InvalidArgumentError("--from: missing; give a run's folder");
  if (FLAGS_to.empty()) return absl::InvalidArgumentError("--to: missing; give a folder for the model");
  const std::string dtype = absl::AsciiStrToUpper(FLAGS_dtype);
  if (dtype != "F32" && dtype != "BF16" && dtype != "F16") {
    return absl::InvalidArgumentError("--dtype: " + FLAGS_dtype + ", must be f32, bf16 or f16");
  }
  if (!(FLAGS_shard_gb >= 1e-6 && FLAGS_shard_gb <= 1e6)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--shard_gb: ", FLAGS_shard_gb,
                     ", must be from 1e-6 to 1e6; nearest legal: ", FLAGS_shard_gb > 1e6 ? "1e6" : "1e-6"));
  }
  return ExportOptions{.dtype = dtype, .shard_bytes = std::llround(FLAGS_shard_gb * 1e9)};
}

// What is exported, as the checkpoint and the run's folder say.
struct Source {
  std::string path;  // of the checkpoint
  std::string run;
  std::optional<Tokenizer> tokenizer;
  ForeignModel foreign;
};

absl::StatusOr<Source> FindSource(FileSystem& fs) {
  const absl::StatusOr<CheckpointPlace> place = FindTrained(fs, FLAGS_from);
  if (!place.ok()) return absl::Status(place.status().code(), absl::StrCat("--from: ", place.status().message()));
  Source source = {.path = place->checkpoints.front(), .run = place->run, .tokenizer = {}, .foreign = {}};
  TREFOIL_ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(fs, source.path));
  TREFOIL_ASSIGN_OR_RETURN(source.foreign.model, ModelOfText(reader.model(), source.path));
  if (source.foreign.model.lora().rank() > 0) {
    return absl::FailedPreconditionError("--from: " + source.path +
                                         " has low-rank adapters; add them to its matrices with `trefoil merge` first");
  }
  if (const auto config = ConfigOfRun(fs, source.run); config.has_value()) {
    source.foreign.class_names = {config->task().class_names().begin(), config->task().class_names().end()};
  }
  if (const std::string tokenizer = TokenizerIn(fs, source.run); !tokenizer.empty()) {
    TREFOIL_ASSIGN_OR_RETURN(source.tokenizer, Tokenizer::Load(fs, tokenizer));
    source.foreign.end_of_text = {source.tokenizer->end_of_text()};
  }
  return source;
}

// On rank 0: the tokenizer, and how text is drawn. What is not written is told.
absl::Status WriteBeside(FileSystem& fs, const Source& source, const std::string& folder, std::string* note) {
  if (const std::string path = source.run + "/generation_config.json"; fs.Exists(path)) {
    TREFOIL_ASSIGN_OR_RETURN(const std::string text, ReadFile(fs, path));
    TREFOIL_RETURN_IF_ERROR(WriteFile(fs, folder + "/generation_config.json", text));
  }
  if (source.tokenizer.has_value()) {
    return WriteTokenizerForOthers(fs, *source.tokenizer, source.foreign.model, folder, note);
  }
  if (RecipeOf(source.foreign.model).structure != Recipe::Structure::kVision) {
    *note = source.run + " has no tokenizer: none is written";
  }
  return absl::OkStatus();
}

bool IsOurs(const std::string& name, const std::vector<std::string>&) {
  return name.ends_with(".safetensors") || name == "model.safetensors.index.json" || name == "config.json" ||
         name == "generation_config.json" || name == "special_tokens_map.json" || name == "chat_template.jinja" ||
         name.starts_with("tokenizer");
}

absl::Status Export(FileSystem& fs, World& world) {
  Group& all = world.all();
  const absl::StatusOr<ExportOptions> options = OptionsOf();
  TREFOIL_RETURN_IF_ERROR(options.status());
  absl::StatusOr<Source> source = FindSource(fs);
  TREFOIL_RETURN_IF_ERROR(all.Agree(source.status()));
  const absl::StatusOr<CheckpointReader> reader = CheckpointReader::Open(fs, source->path);
  TREFOIL_RETURN_IF_ERROR(all.Agree(reader.status()));

  absl::Status status;
  std::unique_ptr<StagedOutput> output;
  std::string note;
  if (world.rank() == 0) {
    auto begun = StagedOutput::Begin(fs, FLAGS_to, {.ours = IsOurs}, FLAGS_overwrite);
    status = begun.status();
    if (status.ok()) output = *std::move(begun);
    if (status.ok()) status = WriteBeside(fs, *source, StagedOutput::Partial(FLAGS_to), &note);
  }
  TREFOIL_RETURN_IF_ERROR(all.Agree(status));
  std::optional<ProgressBar> bar;
  int64_t shown = 0;
  const auto progress = [&](int64_t done, int64_t total) {
    if (world.rank() != 0) return;
    if (!bar.has_value()) bar.emplace("exporting", total, world.size());
    bar->Add(done - shown);
    shown = done;
  };
  ExportSummary summary;
  TREFOIL_RETURN_IF_ERROR(
      ExportModel(fs, all, *reader, source->foreign, *options, StagedOutput::Partial(FLAGS_to), progress, &summary));
  if (bar.has_value()) bar->Finish();
  if (world.rank() == 0) status = output->Publish();
  TREFOIL_RETURN_IF_ERROR(all.Agree(status));
  if (world.rank() != 0) return absl::OkStatus();
  std::cout << "read      " << source->path << "\n"
            << "model     " << summary.model_type << ", " << ShortCount(static_cast<double>(summary.parameters))
            << " parameters\n"
            << "written   " << FLAGS_to << ": " << summary.tensors << " tensors of " << options->dtype << ", "
            << BytesText(summary.bytes) << " in " << summary.files << (summary.files == 1 ? " file" : " files")
            << std::endl;
  if (!note.empty()) std::cerr << "trefoil export: note: " << note << std::endl;
  return absl::OkStatus();
}

}  // namespace

int ExportMain(int argc, char** argv) {
  const std::unique_ptr<World> world = NewMpiWorld(&argc, &argv);
  absl::Status status = CheckSameOnRanks(world->all(), CommandLineFacts({}));
  if (status.ok()) status = Export(FileSystem::Posix(), *world);
  return status.ok() ? 0 : Fail("export", status, /*speak=*/world->rank() == 0);
}

}  // namespace trefoil
