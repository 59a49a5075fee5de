// The rules that the layout's config must satisfy by itself.
//
// Threads: a pure function.
#pragma once

#include "parallel/parallel.pb.h"
#include "runtime/config/rules.h"

namespace trefoil {

// Checks parallel.*, filled.
void CheckParallel(const ParallelConfig& parallel, Rules& rules);

}  // namespace trefoil
