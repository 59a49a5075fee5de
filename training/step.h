// One optimizer step, and one evaluation: what the trainer repeats and the planner runs on the null device.
//
//   step s:  samples [first, first + global batch) of the run
//     data rank i takes the i-th share of them, in micro-batches, through the schedule     (forward, backward)
//     gradients are added over ranks (parallel/gradient_reducer.h) norm, clipping, AdamW
//     (training/optimizer/optimizer.h)
//
// Which samples make a step does not depend on the layout, and neither does the loss but for the rounding of sums: the
// loss is the weighted mean over all targets of the global batch, 0 where all weights are 0.
//
// Threads: the rank's main thread. Every rank of the job makes the same calls.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "data/batch.h"
#include "data/samples.h"
#include "training/rank_figures.h"
#include "training/worker.h"

namespace trefoil {

// Gives `count` samples from number `first` on. Asked by the ranks that look at tokens only (ReadsData). On the null
// device nobody does. With `weighted`, the batches have weights (data/batch.h): a step then begins with a sum over the
// data ranks, of the weights of the global batch.
struct BatchSource {
  using Get = std::function<absl::StatusOr<Batch>(int64_t first, int64_t count)>;
  BatchSource() = default;
  template <typename F>
    requires std::is_constructible_v<Get, F>
  BatchSource(F get, bool weighted = false) : get(std::move(get)), weighted(weighted) {}
  absl::StatusOr<Batch> operator()(int64_t first, int64_t count) const { return get(first, count); }

  Get get;
  bool weighted = false;
  // Where batches are padded to their own longest sample: T and D of samples [first, first + count), which all ranks
  // ask for a step's, those too that look at no tokens.
  std::function<SampleLengths(int64_t first, int64_t count)> lengths;
};
// A source of a run's samples in shape, with nothing in them (training/tasks/tasks.h, ZeroBatch).
BatchSource ZerosSource(const RunConfig& config);

// What a run wants of a step besides. Each may be unset.
struct StepHooks {
  // Both asked once, when the step's sums are made; the answers change nothing about the step.
  std::function<bool()> stop_requested;  // whether the run is to stop
  std::function<bool()> is_writing;      // whether this rank still writes its part of a checkpoint
  // Before anything of the state changes: weights and moments do, gradients are none of it.
  std::function<void()> before_update;
  // Whether to compute the gradients twice and compare (training/computed_twice.h).
  bool compute_twice = false;
};

struct StepResult {
  double loss = 0;           // weighted mean of the targets; of tokens nats
  double gradient_norm = 0;  // before clipping
  double communication_seconds =
      0;  // that this rank's main thread waited for messages (parallel/collectives/patience.h)
  RanksSummary ranks;                // on rank 0
  bool stop = false;                 // some rank was asked to stop the run
  bool writing = false;              // some rank still writes its part of a checkpoint
  SampleLengths lengths;             // of the step's samples
  // If the step was skipped (training.on_nan SKIP): which tensor was not finite first (training/non_finite.h).
  std::string not_finite;
};

// Step number `step` (from 1) on the samples from `first_sample` on. `skipped_before`: earlier steps that updated
// nothing, which AdamW's bias correction does not count.
//
// In a step all ranks of the job exchange something once: those sums, and what else is to be known of all.
//
// A loss or gradient norm that is not finite leaves parameters and moments as they were, and all gradients zero:
// a DataLoss error that names the first tensor, or with training.on_nan SKIP a result with `not_finite` set. Two
// computations that differ leave parameters and moments as they were.
// Failure: those, or a batch that cannot be read. The same Status on every rank.
absl::StatusOr<StepResult> TrainStep(Worker& worker, const BatchSource& source, int64_t step, int64_t first_sample,
                                     double learning_rate, int64_t skipped_before = 0, const StepHooks& hooks = {});

struct Evaluation {
  double loss = 0;  // weighted mean of the targets
  // Of targets with a weight, the share whose likeliest token or class is the target; of classes and of an encoder's
  // tokens.
  std::optional<double> accuracy = std::nullopt;
};
// Of the first `samples` samples of a source, at least 1, no gradients; the same for every layout and global batch. They
// are taken in global batches, of which the last may be filled up with what does not count.
absl::StatusOr<Evaluation> Evaluate(Worker& worker, const BatchSource& source, int64_t samples);

}  // namespace trefoil
