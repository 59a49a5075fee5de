// The rules that a model's config must satisfy, and what the axes of the mesh must divide of it.
//
// Threads: pure functions.
#pragma once

#include <string>
#include <vector>

#include "model/model.pb.h"
#include "parallel/axes.h"
#include "runtime/config/rules.h"

namespace trefoil {

// Checks model.*, filled, by itself and against parallel.*, whose rules have been checked.
void CheckModel(const ModelConfig& model, const ParallelConfig& parallel, Rules& rules);

// A size that must be a multiple of an axis's, which splits it evenly.
struct DividedSize {
  Axis axis = Axis::kTensor;
  std::string path;  // of the field: "model.heads"
  int64_t size = 0;
};
std::vector<DividedSize> DividedSizes(const ModelConfig& model);

// Whether context ranks can share the tokens of its samples; whether their heads, with ALL_TO_ALL, is another matter.
bool CanShareTokens(const ModelConfig& model, const ParallelConfig& parallel);

// Of a network: what the pipeline shares out.
int64_t BlocksOf(const ModelConfig& model);

// The blocks that the pipeline needs at least: one for each chunk of each stage.
int64_t LeastLayers(const ParallelConfig& parallel);

}  // namespace trefoil
