// How many micro-batches each rank takes per step.
#pragma once

#include <cstdint>

#include "training/run.pb.h"

namespace trefoil {

// Of a filled, legal config.
inline int MicroBatchesPerStep(const RunConfig& config) {
  const TrainingConfig& training = config.training();
  return static_cast<int>(training.global_batch() / (int64_t{training.micro_batch()} * config.parallel().data()));
}

// Changes the global batch, so that there are so many.
inline void SetMicroBatchesPerStep(int micro_batches, RunConfig* config) {
  TrainingConfig& training = *config->mutable_training();
  training.set_global_batch(training.micro_batch() * config->parallel().data() * micro_batches);
}

}  // namespace trefoil
