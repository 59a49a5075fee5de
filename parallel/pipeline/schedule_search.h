// The schedule AUTO: lists made for stages whose parts take unequal times.
//
//   const std::vector<std::vector<Action>> lists = SearchSchedule({.virtual_stages = fold, .micro_batches = 32,
//                                                                  .times = times, .message = 0.01, .in_flight = 8});
//
// Many lists are made greedily on a clock, each by other rules of thumb: what a stage does first when it may choose, how
// many forwards it begins with, how long it leaves weight gradients waiting. The fastest of them is taken, or the fastest
// named schedule of the same virtual stages that stays within the limit, if that is faster: SimulateSchedule says. So
// what comes is never slower than any of these. It is a function of what is given alone: every rank makes the same lists.
//
// All backwards come in two. Micro-batches of a chunk are done in their order, in every kind of computation.
//
// Threads: pure functions.
#pragma once

#include <vector>

#include "parallel/pipeline/schedule.h"

namespace trefoil {

// Of a micro-batch in a virtual stage, in any one unit of time.
struct ChunkTimes {
  double forward = 1, backward_input = 1, backward_weight = 1;
  double of(ActionKind kind) const;  // of computations; a whole backward is the sum of both
};

struct ScheduleProblem {
  VirtualStages virtual_stages;
  int micro_batches = 1;
  std::vector<ChunkTimes> times;  // by virtual stage
  double message = 0;             // from one stage to another
  // Forwards that a stage may have done without their weight gradients, over all its chunks: at least as many as chunks.
  int in_flight = 1;
};

// Every stage's list. The virtual stages have one chunk a stage, or two in a fold.
std::vector<std::vector<Action>> SearchSchedule(const ScheduleProblem& problem);

// How long each action of a problem's lists takes.
ActionSeconds SecondsOf(const ScheduleProblem& problem);

}  // namespace trefoil
