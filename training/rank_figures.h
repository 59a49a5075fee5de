// What each rank tells rank 0 about a step, in the messages of the step's sums: who holds the others up.
//
//   const std::vector<double> all = group.SumAndGather(sums, figures.Packed());
//   if (group.rank() == 0) summary = Summarise(all, group);
#pragma once

#include <array>
#include <span>
#include <string>

#include "parallel/collectives/group.h"

namespace trefoil {

// One rank's, of the step up to its sums; the update, which follows, is left out.
struct RankFigures {
  // In which it neither waited for messages (parallel/collectives/patience.h) nor for samples: computing, mostly. GPUs
  // wait for each other on their queues, where the host does not see it: there this is about the same on all ranks.
  double work_seconds = 0;
  double data_seconds = 0;    // that it waited for samples
  double reserved_bytes = 0;      // from the system for tensors, on its device
  double resident_bytes = 0;  // of its process in the host's memory

  std::array<double, 4> Packed() const { return {work_seconds, data_seconds, reserved_bytes, resident_bytes}; }
};

struct RanksSummary {
  int slowest = 0;           // the rank with most work_seconds; of equals the lowest
  std::string slowest_host;  // where it is
  double slowest_work_seconds = 0, median_work_seconds = 0;
  double data_seconds = 0, reserved_bytes = 0, resident_bytes = 0;  // the largest of all ranks, each
};

// `packed`: every rank's RankFigures, in rank order.
RanksSummary Summarise(std::span<const double> packed, const Group& group);

}  // namespace trefoil
