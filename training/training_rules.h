// The rules that a training config must satisfy.
//
// Threads: a pure function.
#pragma once

#include "parallel/parallel.pb.h"
#include "runtime/config/rules.h"
#include "runtime/config/runtime.pb.h"
#include "training/training.pb.h"

namespace trefoil {

// Checks training.*, filled, by itself and against parallel.* and runtime.*, whose own rules are checked elsewhere.
void CheckTraining(const TrainingConfig& training, const ParallelConfig& parallel, const RuntimeConfig& runtime,
                   Rules& rules);

}  // namespace trefoil
