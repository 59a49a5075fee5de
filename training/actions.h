// What the stages of a run's pipeline do in a training step, in order.
//
// Threads: pure functions.
#pragma once

#include <vector>

#include "parallel/pipeline/schedule_search.h"
#include "training/run.pb.h"

namespace trefoil {

// Of a filled, legal config: every stage's list. A search (parallel/pipeline/schedule_search.h) where the schedule is
// AUTO, which takes up to some seconds for some hundred thousand actions.
std::vector<std::vector<Action>> ActionsOfStages(const RunConfig& config);

// A rank's.
std::vector<Action> ActionsOf(const RunConfig& config, int rank);

// What is searched for, with the config's times, or those of the model's FLOPs: of each third of a micro-batch's, forward,
// input and weights, and where all is recomputed another forward before the input's.
ScheduleProblem ProblemOf(const RunConfig& config);

}  // namespace trefoil
