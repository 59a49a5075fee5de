// What a row of pixels can show of more values than it has pixels. For planner/report/timeline_picture.cc.
//
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/report/timeline.h"

namespace trefoil {

// The highest memory within each of `columns` equal parts of [0, seconds]: what a limit is compared with. A dip of at
// most `dip` columns (even) is filled up to the lower of its banks, as the fall and rise between two micro-batches would
// otherwise show here and there only.
std::vector<int64_t> MemoryByColumn(const std::vector<Timeline::MemoryPoint>& memory, double seconds, size_t columns,
                                    int dip);

// Each value's mean with its neighbours up to `reach` away, as far as there are any.
std::vector<double> NeighbourMeans(const std::vector<double>& values, int reach);

}  // namespace trefoil
