// The rules that a training config must satisfy.
//
// Threads: a pure function.
#pragma once

#include "parallel/parallel.pb.h"
#include "runtime/config/rules.h"
#include "training/training.pb.h"

namespace trefoil {

// Checks training.*, filled, by itself and against parallel.*, whose rules have been checked.
void CheckTraining(const TrainingConfig& training, const ParallelConfig& parallel, Rules& rules);

}  // namespace trefoil
