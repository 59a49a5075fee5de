// A model to use, from the folder of the run that has trained it: flags --checkpoint and --tokenizer_model.
//
//   TREFOIL_ASSIGN_OR_RETURN(TrainedModel trained, LoadTrainedModel(fs, "predict", check, world, *device));
//   trained.predictor->Next(...);
//
// Of a run's checkpoints the best is taken where it keeps that (training.early_stop), else the newest; damaged ones are
// passed over with a warning on standard error, and left where they are.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "data/tokens/tokenizer.h"
#include "parallel/collectives/world.h"
#include "runtime/device.h"
#include "runtime/files/file.h"
#include "training/inference/predictor.h"

namespace trefoil {

struct TrainedModel {
  std::string checkpoint;              // its folder
  std::string run;                     // and that of its run
  std::optional<Tokenizer> tokenizer;  // that it was trained with; none of a model of images
  std::unique_ptr<Predictor> predictor;

  const ModelConfig& model() const { return predictor->model(); }
};

// `command` is for warnings. `check` may refuse a model, of the checkpoint at `path`, before its weights are read.
// World of one rank; it and the device outlive the model. Failure: a flag that is missing or names nothing; no
// checkpoint that is whole; no tokenizer, or another than the checkpoint's.
absl::StatusOr<TrainedModel> LoadTrainedModel(
    FileSystem& fs, const std::string& command,
    const std::function<absl::Status(const std::string& path, const ModelConfig& model)>& check, World& world,
    Device& device);

}  // namespace trefoil
