#include "launcher/trained_model.h"

#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <gflags/gflags.h>
#include <google/protobuf/text_format.h>

#include <iostream>
#include <utility>
#include <vector>

#include "checkpoint/reader.h"
#include "launcher/flags/checkpoint.h"
#include "model/families/recipe.h"
#include "training/identity.h"
#include "training/saving/newest_checkpoint.h"
#include "training/trainer_state.pb.h"

DEFINE_string(tokenizer_model, "", "The tokenizer, tokenizer.json or SentencePiece's .model. Empty: that in the run's folder.");

namespace trefoil {
namespace {

// The run's tokenizer, or the one that it had when the checkpoint was saved, of that hash (training/start.h). Empty:
// unknown.
absl::StatusOr<std::string> TokenizerPath(FileSystem& fs, const std::string& run, const std::string& hash) {
  if (!FLAGS_tokenizer_model.empty()) return FLAGS_tokenizer_model;
  const std::string kept = hash.empty() ? "" : KeptTokenizerIn(fs, run, hash);
  if (!kept.empty()) return kept;
  const std::string path = TokenizerIn(fs, run);
  if (!path.empty()) return path;
  return absl::NotFoundError("--tokenizer_model: missing, and " + run + " has neither " + TokenizerFileName(true) + " nor " +
                             TokenizerFileName(false) + ": the run named no data.tokenizer");
}

// Another one would give the model's ids another meaning.
absl::Status CheckTokenizer(const std::string& path, const TokenizerFiles& files, const std::string& hash) {
  if (hash.empty() || files.checksum() == hash) return absl::OkStatus();
  return absl::FailedPreconditionError(path + " (" + files.checksum() +
                                       ") is another tokenizer than the checkpoint was trained with (" + hash +
                                       "); give that with --tokenizer_model");
}

absl::StatusOr<Tokenizer> OpenTokenizer(FileSystem& fs, const std::string& run, const std::string& hash,
                                        const ModelConfig& model) {
  TREFOIL_ASSIGN_OR_RETURN(const std::string path, TokenizerPath(fs, run, hash));
  TREFOIL_ASSIGN_OR_RETURN(TokenizerFiles files, ReadTokenizerFiles(fs, path));
  TREFOIL_RETURN_IF_ERROR(CheckTokenizer(path, files, hash));
  TREFOIL_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Of(std::move(files), path));
  if (tokenizer.vocabulary() > model.vocabulary()) {
    return absl::InvalidArgumentError(path + " has " + std::to_string(tokenizer.vocabulary()) +
                                      " tokens, the checkpoint's model only " + std::to_string(model.vocabulary()));
  }
  return tokenizer;
}

// What rank 0 finds, on every rank: a run that goes on may write and remove checkpoints meanwhile.
absl::StatusOr<CheckpointPlace> ChoosePlace(FileSystem& fs, Group& all) {
  if (FLAGS_checkpoint.empty()) return absl::InvalidArgumentError("--checkpoint: missing; give a run's folder");
  absl::StatusOr<CheckpointPlace> found = CheckpointPlace();
  if (all.rank() == 0) found = FindTrained(fs, FLAGS_checkpoint);
  TREFOIL_RETURN_IF_ERROR(all.Agree(
      found.ok() ? absl::OkStatus()
                 : absl::Status(found.status().code(), "--checkpoint: " + std::string(found.status().message()))));
  std::vector<std::string> paths = found->checkpoints;
  paths.push_back(found->run);
  CheckpointPlace place;
  place.checkpoints = absl::StrSplit(all.BroadcastString(absl::StrJoin(paths, std::string(1, '\0'))), '\0');
  place.run = place.checkpoints.back();
  place.checkpoints.pop_back();
  return place;
}

}  // namespace

absl::StatusOr<TrainedModel> LoadTrainedModel(
    FileSystem& fs, const std::string& command,
    const std::function<absl::Status(const std::string& path, const ModelConfig& model)>& check, Copies copies,
    World& world, Device& device) {
  TREFOIL_ASSIGN_OR_RETURN(const CheckpointPlace place, ChoosePlace(fs, world.all()));
  TrainedModel trained;
  const auto load = [&](const std::string& path) -> absl::Status {
    trained = {.checkpoint = path, .run = place.run, .tokenizer = {}, .layout = {}, .predictor = nullptr};
    TREFOIL_ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::OpenOnAll(fs, world.all(), path));
    ModelConfig model;
    TrainerState state;
    if (!google::protobuf::TextFormat::ParseFromString(reader.model(), &model) ||
        !google::protobuf::TextFormat::ParseFromString(reader.trainer_state(), &state)) {
      return absl::DataLossError(path + ": its model description is not readable");
    }
    TREFOIL_RETURN_IF_ERROR(check(path, model));
    TREFOIL_ASSIGN_OR_RETURN(trained.layout, LayoutOfFlags(model, world.size(), copies));
    if (RecipeOf(model).structure != Recipe::Structure::kVision) {
      absl::StatusOr<Tokenizer> tokenizer = OpenTokenizer(fs, place.run, state.tokenizer(), model);
      // A tokenizer that is missing does not mean that the checkpoint is damaged.
      TREFOIL_RETURN_IF_ERROR(world.all().Agree(
          tokenizer.ok() ? absl::OkStatus() : absl::FailedPreconditionError(tokenizer.status().message())));
      trained.tokenizer = *std::move(tokenizer);
    }
    trained.predictor = std::make_unique<Predictor>(model, trained.layout, world, device);
    return trained.predictor->Load(fs, path);
  };
  if (place.checkpoints.size() == 1) {
    TREFOIL_RETURN_IF_ERROR(load(place.checkpoints.front()));
    return trained;
  }
  const auto warn = [&](const std::string& text) {
    if (world.rank() == 0) std::cerr << "trefoil " << command << ": " << text << std::endl;
  };
  std::vector<std::string> damaged;
  TREFOIL_ASSIGN_OR_RETURN(const std::string path, FirstWhole(place.checkpoints, load, &damaged, warn));
  if (!damaged.empty()) warn("WARNING: taking " + path + " instead.");
  return trained;
}

}  // namespace trefoil
