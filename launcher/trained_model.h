// A model to use, from the folder of the run that has trained it: flags --checkpoint, --tokenizer_model and those of the
// layout (launcher/inference_layout.h).
//
//   TREFOIL_ASSIGN_OR_RETURN(TrainedModel trained, LoadTrainedModel(fs, "predict", check, Copies::kNone, world, *device));
//   trained.predictor->Next(...);
//
// Of a run's checkpoints the best is taken where it keeps that (training.early_stop), else the newest; damaged ones are
// passed over with a warning of rank 0 on standard error, and left where they are.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "data/tokens/tokenizer.h"
#include "launcher/inference_layout.h"
#include "parallel/collectives/world.h"
#include "runtime/device.h"
#include "runtime/files/file.h"
#include "training/inference/predictor.h"

namespace trefoil {

struct TrainedModel {
  std::string checkpoint;              // its folder
  std::string run;                     // and that of its run
  std::optional<Tokenizer> tokenizer;  // that it was trained with; none of a model of images
  InferenceLayout layout;
  std::unique_ptr<Predictor> predictor;

  const ModelConfig& model() const { return predictor->model(); }
};

// `command` is for warnings. `check` may refuse a model, of the checkpoint at `path`, before its weights are read.
// Every rank of the world makes the same call and gets the same Status; rank 0 chooses the checkpoint. World and device
// outlive the model. Failure: a flag that is missing or names nothing; no
// checkpoint that is whole; no tokenizer, or another than the checkpoint's.
absl::StatusOr<TrainedModel> LoadTrainedModel(
    FileSystem& fs, const std::string& command,
    const std::function<absl::Status(const std::string& path, const ModelConfig& model)>& check, Copies copies,
    World& world, Device& device);

}  // namespace trefoil
