// The CPU device's kernels, for the null device too, which takes the workspace that they would take.
//
// Private to this folder.
#pragma once

#include <memory>

#include "runtime/arena.h"
#include "runtime/host/cpu_features.h"
#include "runtime/kernels.h"

namespace trefoil {

// For this CPU, `threads` threads of it. `dry`: matrix products (fp8 too), the backwards of bias and norms, rotary and
// attention only take and give back their workspace; no other op may be called. The arena outlives them.
std::unique_ptr<Kernels> NewCpuKernels(Arena& arena, int threads, Bf16Products bf16_products, bool dry);

}  // namespace trefoil
