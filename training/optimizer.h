// The end of a step: global gradient norm, clipping, AdamW on this rank's shard, working weights brought up to date.
//
// Threads: the rank's main thread, after GradientReducer::Finish.
#pragma once

#include "parallel/parameter_store.h"
#include "training/training.pb.h"

namespace trefoil {

// Euclidean norm of the whole model's gradient, the same on all ranks: sums of squares in double, each element counted
// by the one rank that owns it. `all`: every rank of the job.
double GradientNorm(ParameterStore& store, Device& device, Group& all);

// One AdamW step on every bucket; gradients are scaled by min(1, clip_norm / norm) first, and zero on return.
// `step` counts from 1.
void UpdateParameters(ParameterStore& store, Device& device, Group& data, const OptimizerConfig& config,
                      double learning_rate, int64_t step, double gradient_norm);

}  // namespace trefoil
