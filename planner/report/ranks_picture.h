// What lies where, as a picture: for each rank of a layout the part of the network, of gradients and optimizer state, and of
// the batch that it has (planner/report/rank_share.h). SVG, a file of its own.
//
// A box for each rank, in rows by stage of the pipeline. Of large layouts the first ranks along each axis are drawn, and
// the picture says so.
//
// Threads: pure function.
#pragma once

#include <string>

#include "training/run.pb.h"

namespace trefoil {

// Of a config that is filled and legal, with its vocabulary set.
std::string RanksPicture(const RunConfig& config);

}  // namespace trefoil
