// Runs a stage's list of actions: the one loop of the pipeline.
//
// Threads: the rank's main thread.
#pragma once

#include <functional>
#include <vector>

#include "parallel/collectives.h"
#include "parallel/schedule.h"
#include "parallel/stage.h"

namespace trefoil {

// Performs `actions` in order and returns when all have been done and all messages delivered. `pipeline`: the ranks of
// the pipeline axis, in order of stage.
// `before`, if given, is called before each action.
void RunSchedule(const std::vector<Action>& actions, Stage& stage, Group& pipeline,
                 const std::function<void(const Action&)>& before = nullptr);

// The forward part of a list: what an evaluation runs.
std::vector<Action> ForwardOnly(const std::vector<Action>& actions);

}  // namespace trefoil
