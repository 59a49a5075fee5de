// How far a network that writes from left to right sees back, measured two ways on texts: by what it knows at each token,
// and by what of a token's loss gets back to the tokens before it.
//
//   TREFOIL_ASSIGN_OR_RETURN(const std::vector<double> losses, LossByPosition(worker, held_out, /*samples=*/256));
//   TREFOIL_ASSIGN_OR_RETURN(const std::vector<double> norms, GradientByDistance(worker, held_out, /*samples=*/256));
//
// The worker has one rank, trained weights and one micro-batch a step; `samples` is a multiple of its global batch. Batches
// have a target for each token. Weights stay as they are; moments do not.
//
// Threads: the rank's main thread.
#pragma once

#include <cstdint>
#include <vector>

#include "training/step.h"

namespace trefoil {

// [T]: the mean loss of target t of a sample, over the samples in which it has a weight; 0 where it has none in any. What
// falls with t is what context adds.
absl::StatusOr<std::vector<double>> LossByPosition(Worker& worker, const BatchSource& source, int64_t samples);

// [T]: the mean over samples of |d loss / d x|, the Euclidean norm, of the last target's loss and of what goes into the first
// block at the token d steps before the last one. Where it vanishes with d (Hochreiter 1991; Bengio, Simard & Frasconi
// 1994), so does what training can learn of that distance.
absl::StatusOr<std::vector<double>> GradientByDistance(Worker& worker, const BatchSource& source, int64_t samples);

}  // namespace trefoil
