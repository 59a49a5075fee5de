// What the methods of context parallelism (parallel.context_method) would take on one layout, side by side.
#pragma once

#include <string>

#include "planner/plan.h"

namespace trefoil {

// A line for each method, or why the layout cannot have it; nothing with parallel.context 1. `plan` is of `config`.
//
//   context   RING        step 3.41 s, a rank sends 6.00 GiB in attention, 41.2 GiB reserved
//             ALL_TO_ALL  step 3.20 s, a rank sends 7.50 GiB in attention, 41.9 GiB reserved
std::string ReportContext(const RunConfig& config, const Plan& plan, Planner& planner);

}  // namespace trefoil
