// The gathers of weights (ZeRO 3) of a whole step: which there are depends on the order of a stage's actions
// (parallel/weight_gathers.h) and not on each alone, so a stage's profile has what one of each bucket costs, and this
// goes through the real list.
//
// Threads: a pure function.
#pragma once

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "planner/stage_profile.h"

namespace trefoil {

struct GatherPlan {
  int64_t gathers = 0;
  std::map<std::string, OpTotal> sent;  // by group
  // What gathers add to the time of an action: beside the main queue (GPUs) what it waits for them, as if the stage
  // never waited for another; else all of those that are started in it.
  double SecondsOf(const Action& action) const;
  double seconds = 0;  // of all
  std::map<std::tuple<ActionKind, int, int>, double> of_actions;  // by kind, micro-batch and chunk, where not 0
};

GatherPlan PlanGathers(const StageProfile& profile, const std::vector<Action>& actions, int micro_batches, bool beside);

}  // namespace trefoil
