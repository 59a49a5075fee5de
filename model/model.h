// The model as a whole, from its config alone: the parameters it declares, how it spreads over pipeline stages, and
// the FLOPs it takes. No device, no mesh, no memory.
//
//   ParameterTable table = DeclareModel(config);
//   table.elements();                                  // the parameter count
//
// The config must be complete (no field left to its default; training/config/validate.h fills them).
// Threads: pure functions.
#pragma once

#include <vector>

#include "model/module.h"
#include "parallel/parameter.h"
#include "parallel/pipeline/virtual_stages.h"

namespace trefoil {

// The parameters of all modules (model/module.h).
ParameterTable DeclareModel(const ModelConfig& config);

// The modules of each virtual stage, in order. What is spread are the blocks; what comes before them goes to the first
// virtual stage, what comes behind to the last. Each has a block or more, and the most loaded stage has as few FLOPs as
// can be: a large vocabulary's head weighs several blocks, and its stage has the fewer. At least as many blocks as
// virtual stages.
std::vector<std::vector<int>> ModulesOfVirtualStages(const std::vector<ModuleSpec>& modules,
                                                     const VirtualStages& virtual_stages);
std::vector<std::vector<int>> ModulesOfVirtualStages(const ModelConfig& config, const VirtualStages& virtual_stages);

// What the holder of some modules does with a batch.
Role RoleOf(const ModelConfig& config, const std::vector<int>& modules);

// Tokens, or patches, of a sample that go through the network: of an encoder-decoder those of both.
int64_t TokensOfSample(const ModelConfig& config);
// FLOPs of training on a sample, forward and backward, recomputation not counted: 6 per parameter and token, plus
// attention, 12 (H D) for each pair of a query and a key that it sees. Parameters that are only looked up do not count
// (positions, and the input embedding where it is not tied): nothing multiplies them. A tied embedding counts once, for
// the head, which counts for the tokens that have targets.
double ModelFlops(const ModelConfig& config);
// The same in a few words, for reports.
inline constexpr char kModelFlopsRule[] = "6 per multiplied parameter + attention of what is seen";

}  // namespace trefoil
