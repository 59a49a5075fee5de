// What a run will need of memory, found before anything is allocated: the trainer's own step, run on the null device
// with null collectives at each stage of the mesh. The bytes are the real ones, but for communication with several data
// ranks: there the plan has no overlap in time, so a buffer of the gradients' reduction (at most 1 MiB x data ranks) may
// come on top.
//
// Threads: any; it builds its own world and device.
#pragma once

#include "runtime/arena.h"
#include "training/run.pb.h"

namespace trefoil {

struct MemoryPlan {
  int rank = 0;   // the one that needs most
  MemoryUse use;  // its peaks: what tensors take; the kernels' scratch comes on top
};

// The config is filled and legal, with its vocabulary set; `ranks` as it says.
MemoryPlan PlanMemory(const RunConfig& config, int ranks);

}  // namespace trefoil
