// The rules that the runtime's config must satisfy by itself.
//
// Threads: a pure function.
#pragma once

#include "runtime/config/rules.h"
#include "runtime/config/runtime.pb.h"

namespace trefoil {

// Checks runtime.*, filled.
void CheckRuntime(const RuntimeConfig& runtime, Rules& rules);

}  // namespace trefoil
