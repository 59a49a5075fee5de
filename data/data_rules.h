// The rules that the data's config must satisfy by itself; whether the files are there is seen when they are opened.
//
// Threads: a pure function.
#pragma once

#include "data/data.pb.h"
#include "runtime/config/rules.h"

namespace trefoil {

// Checks data.*.
void CheckData(const DataConfig& data, Rules& rules);

}  // namespace trefoil
