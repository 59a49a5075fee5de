// What a run trains on and is evaluated on, as one rank sees it: opened before anything is planned or allocated, so that
// a mistake in the files costs nothing.
//
//   TREFOIL_ASSIGN_OR_RETURN(const RunData data, OpenRunData(config, *all));
//   ... build the worker ...
//   const BatchSource source = ReadAhead(config, *data.train.samples, /*end=*/steps * global_batch);
//   TrainStep(worker, source, ...);
//
// Only ranks whose stage looks at the data (worker.h, ReadsData) read files. The others open them where a step's samples
// are padded to the longest of them (training/tasks/tasks.h, ShortensBatches), which is to be known on every rank.
//
// The held-out loss is that of a random subset, the first samples in the order of a Sampler with seed 0: the same in
// every run on these files, whatever its seed, layout and batch; a larger number of samples has those of a smaller among
// its own. The entropy that it is compared with is of the same samples.
#pragma once

#include <cstdint>
#include <string>

#include "parallel/collectives/group.h"
#include "training/step.h"
#include "training/tasks/task_data.h"
#include "training/worker.h"

namespace trefoil {

struct RunData {
  TaskData train;     // no samples where the rank need not open the data
  TaskData held_out;  // none there, and without an evaluation
  int64_t evaluation_samples = 0;  // of one evaluation, known on every rank; 0: none

  // How often `samples` samples of the run go through all of the training data, whose sources may come in unequal
  // shares; 0 where there are none.
  double Epochs(int64_t samples) const;
};

// The config is filled and legal, with its vocabulary set. Every rank calls it. Reads no sample.
// Failure: files that a rank cannot open, too little in them; files that differ between ranks, such as a host's own copy
// that lacks a shard. The same Status on every rank.
absl::StatusOr<RunData> OpenRunData(const RunConfig& config, Group& all);

// Entropy in nats of the targets of an evaluation, the loss of the best model that does not look at what goes in, on rank
// 0; every rank calls it. 0 where targets are values. Each data rank reads its share.
// Failure: a sample that cannot be read; the same Status on every rank.
absl::StatusOr<double> TargetEntropy(const RunData& data, Worker& worker);

// The samples for this rank's TrainStep or Evaluate, read ahead on a thread (data/prefetcher.h) that ends with the last
// copy of the result. Samples from `end` on will not be asked for. `samples` outlives it.
BatchSource ReadAhead(const RunConfig& config, const Samples& samples, int64_t end);

// Lines for people, on rank 0: what is trained on, and how often by the time that `samples` samples of the run are used.
std::string DescribeData(const RunConfig& config, const RunData& data, int64_t samples);

}  // namespace trefoil
