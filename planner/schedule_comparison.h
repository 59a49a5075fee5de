// The schedules of a run's mesh beside each other: what each takes, and how much of it the optimizer's waiting for all is.
//
//   for (const ScheduleRow& row : CompareSchedules(config, ranks, planner)) ...
//
// Threads: the planner's.
#pragma once

#include <vector>

#include "planner/plan.h"

namespace trefoil {

struct ScheduleRow {
  RunConfig config;    // with this schedule and chunks
  double seconds = 0;  // of a step
  double idle_within = 0, barrier = 0;  // seconds (ScheduleTimes): the first of the stage where it is longest
  int64_t reserved = 0;  // bytes, of the fullest rank
  bool fits = true;
};

// All that are legal on the config's mesh, with the chunks that each may have, at most 8: those that fit, fastest first,
// then the others. AUTO goes by the planner's times of its cluster.
std::vector<ScheduleRow> CompareSchedules(const RunConfig& config, int ranks, Planner& planner);

}  // namespace trefoil
