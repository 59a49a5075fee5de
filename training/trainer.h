// A training run from start to end: resume or initialise, step, log, evaluate, save, stop when asked.
//
//   TrainerOptions options = {.stop_requested = [] { return stop.load(); }};
//   TREFOIL_ASSIGN_OR_RETURN(RunStart start, FindStart(fs, config, *all, /*allow_change=*/false));
//   absl::StatusOr<RunEnd> end = Train(config, std::move(start), *world, *device, options);
//
// The run folder (config.folder) gets: config.pbtxt (the filled config), tokenizer.model or tokenizer.json (if the config names one),
// metrics.jsonl, TensorBoard event files, checkpoints/. Starting the same run again goes on from its newest checkpoint; a
// finished run says so and does nothing.
//
// Threads: the rank's main thread; every rank of the job calls it.
#pragma once

#include <functional>
#include <ostream>

#include "parallel/collectives/world.h"
#include "runtime/files/file.h"
#include "training/log/peak_flops.h"
#include "training/run.pb.h"
#include "training/start.h"

namespace trefoil {

struct TrainerOptions {
  FileSystem* fs = &FileSystem::Posix();
  // For FindStart.
  bool allow_change = false;
  // Where rank 0 writes lines for people; null: nowhere.
  std::ostream* out = nullptr;
  // Asked by every rank before the first step and at the end of each; when any rank says yes, all save and return kStopped.
  std::function<bool()> stop_requested = [] { return false; };
  // For MFU, which is shown where one is known.
  PeakFlops peak = {};
};

// How a run that nothing went wrong with ends.
enum class RunEnd {
  kFinished,  // its last step is done, or was before
  kStopped,   // on request: a start with the same config goes on
};

// The config is filled and legal (training/config/validate.h), with its vocabulary set.
// Failure: data, folder or checkpoint that cannot be read or written, a loss that is not finite (the last checkpoint is
// kept). The same result on every rank.
absl::StatusOr<RunEnd> Train(const RunConfig& config, RunStart start, World& world, Device& device,
                             const TrainerOptions& options);

// Both, where nothing is to be done between them.
absl::StatusOr<RunEnd> Train(const RunConfig& config, World& world, Device& device, const TrainerOptions& options);

}  // namespace trefoil
