// The end of a step: what the global gradient norm is made of, clipping, AdamW on this rank's shard, working weights
// brought up to date.
//
// Threads: the rank's main thread, after GradientReducer::Finish.
#pragma once

#include <vector>

#include "parallel/gradient_reducer.h"
#include "parallel/parameter_store.h"
#include "training/training.pb.h"

namespace trefoil {

// The gradients that this rank owns: over all ranks of the job, each element of the whole model's gradient once. The
// square of its Euclidean norm is the sum of their squares.
std::vector<Tensor> OwnedGradients(ParameterStore& store);

// One AdamW step on every bucket; gradients are scaled by min(1, clip_norm / norm) first, and zero on return. Each
// bucket's weights are gathered while the next is updated. `step` counts from 1.
void UpdateParameters(ParameterStore& store, Device& device, GradientReducer& reducer, const OptimizerConfig& config,
                      double learning_rate, int64_t step, double gradient_norm);

}  // namespace trefoil
