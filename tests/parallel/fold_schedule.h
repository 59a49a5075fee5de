// A schedule over a fold of two chunks (VirtualStages::Order::kFold), for tests: of any number of micro-batches, with all
// backwards whole or all in two.
#pragma once

#include <vector>

#include "parallel/pipeline/schedule.h"

namespace trefoil {

VirtualStages FoldOf(int stages);

// Every stage's list. Made greedily on a clock of equal units: a stage does a backward if one can be done, else a
// forward if it holds less than two of each stage, else, of divided backwards, weights that wait.
std::vector<std::vector<Action>> FoldSchedule(int stages, int micro_batches, bool divided);

}  // namespace trefoil
