// What `trefoil predict` says of texts and images, by the task that the model was trained on: a file of this folder for
// each kind of answer.
//
//   const PredictionJob job = {.options = options, .task = config.task(), .predictor = *trained.predictor, ...};
//   TREFOIL_ASSIGN_OR_RETURN(const Predictions predictions, PredictWritten(job, std::move(examples)));
//   predictions.lines;     // for each example, in their order
//
// Examples of similar length go through the model together, `batch` at a time; progress goes to standard error.
// Failure: an example that the model cannot take, named by its place; a right answer that is none of the model's
// classes.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tokens/tokenizer.h"
#include "launcher/prediction/example.h"
#include "runtime/files/file.h"
#include "runtime/status.h"
#include "training/inference/predictor.h"
#include "training/run.pb.h"

namespace trefoil {

struct PredictionOptions {
  int64_t batch = 32;  // examples at once
  int64_t top = 1;     // answers to give
  bool json = false;
  // Of texts that are written.
  int64_t beam = 4;
  double length_penalty = 0.6;
  int64_t tokens = 0;  // at most; 0: by the source
};

struct PredictionJob {
  const PredictionOptions& options;
  const TaskConfig& task;
  Predictor& predictor;
  Tokenizer* tokenizer = nullptr;  // of texts
};

struct Predictions {
  std::vector<std::string> lines;   // of each example: one, or several with newlines between
  std::vector<std::string> notes;   // what was done otherwise than one may think
  std::vector<std::string> scores;  // where answers are known
};

// TRANSLATION, SPAN_CORRUPTION: what the decoder writes; NEXT_TOKEN, ANSWERS: how texts go on. By beam search. Scores:
// BLEU and chrF.
absl::StatusOr<Predictions> PredictWritten(const PredictionJob& job, std::vector<Example> examples);

// TEXT_CLASSES, TEXT_VALUE: of texts; TOKEN_CLASSES: of the words of texts. Scores: accuracy, or mean squared error.
absl::StatusOr<Predictions> PredictLabels(const PredictionJob& job, std::vector<Example> examples);

// MASKED_TOKEN: which pieces stand behind each [MASK] of a text.
absl::StatusOr<Predictions> PredictMasks(const PredictionJob& job, std::vector<Example> examples);

// IMAGE_CLASSES: of PNG and JPEG files, scaled to just cover the model's image size, and of packed image files, cut as
// in an evaluation, whose labels give the accuracy. `inputs`: paths and patterns.
absl::StatusOr<Predictions> PredictImages(const PredictionJob& job, FileSystem& fs,
                                          const std::vector<std::string>& inputs);

}  // namespace trefoil
