// The tasks as one table: all that differs between them but where their samples come from (training/tasks/samples.h).
//
//   FillTask(&config);                           // kind, rates; and of the model what the task decides
//   const Batch zeros = ZeroBatch(config, 8, HasWeights(config));    // what a batch looks like
//
// A new task is an enumerator of TaskConfig::Kind, an entry of the table (tasks.cc), and its source of samples.
//
// Threads: pure functions.
#pragma once

#include <vector>

#include "data/batch.h"
#include "data/samples.h"
#include "data/tasks/span_corruption.h"
#include "model/families/recipe.h"
#include "runtime/config/rules.h"
#include "training/run.pb.h"

namespace trefoil {

struct TaskEntry {
  TaskConfig::Kind kind;
  ModelConfig::Head head;
  std::vector<Recipe::Structure> structures;  // networks that can do it
  // What its batches have (data/batch.h).
  bool lengths = false, segments = false, places = false, weights = false;

  bool CanBeDoneBy(const ModelConfig& model) const;
};

// CHECKs that it is set.
const TaskEntry& EntryOf(TaskConfig::Kind kind);

// Replaces what is left open of config.task, and of config.model what follows from it: head, targets, decoder_length and,
// of images, sequence_length. Any input is accepted.
void FillTask(RunConfig* config);

// Checks task.* of a filled config, and that the model can do it.
void CheckTask(const RunConfig& config, Rules& rules);

// Symbols of its own behind the tokenizer's vocabulary: what model.vocabulary must have room for.
int32_t SymbolsOf(const RunConfig& config);

// Whether batches have weights.
bool HasWeights(const RunConfig& config);

// Whether evaluations tell an accuracy.
bool HasAccuracy(const ModelConfig& model);

// Of SPAN_CORRUPTION.
absl::StatusOr<SpanCounts> SpansOf(const RunConfig& config);
// Patches of an image that stay hidden.
int64_t MaskedPatches(const RunConfig& config);

// Whether each step's samples are of similar length and padded to the longest of them only: of pairs and of whole texts.
// Recordings (runtime.graphs) hold for one length.
bool ShortensBatches(const RunConfig& config);
// T and D of a config's batches; and the same config for batches of others, which has as many targets as they have.
SampleLengths SampleLengthsOf(const RunConfig& config);
RunConfig WithLengths(RunConfig config, const SampleLengths& lengths);

// A batch of a filled, legal config, with a legal value in every element.
Batch ZeroBatch(const RunConfig& config, int64_t samples, bool weighted);

}  // namespace trefoil
