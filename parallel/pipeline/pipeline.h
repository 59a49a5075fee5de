// Runs a stage's list of actions: the one loop of the pipeline.
//
// A tensor that is sent is given up at one point of the list, whenever it is delivered: before the next of its kind
// (activation or gradient) is sent to the same stage, which waits for its delivery, or at the end. So a stage has at
// most one of each kind under way to each other, and its memory does not depend on timing. SimulateSchedule
// (parallel/pipeline/schedule.h), which has the same rule, shows that no list of BuildSchedule waits for ever.
//
// Where the group receives early, a message comes into its tensor while the stage computes: the tensor is taken when
// the message before it of the same kind from the same stage has come, the first at the first action. So there is one
// such tensor of each kind from each other stage.
//
// Threads: the rank's main thread.
#pragma once

#include <functional>
#include <vector>

#include "parallel/collectives/group.h"
#include "parallel/pipeline/schedule.h"
#include "parallel/pipeline/stage.h"

namespace trefoil {

// Performs `actions` in order and returns when all have been done and all messages delivered. `pipeline`: the ranks of
// the pipeline axis, in order of stage.
// `before`, if given, is called before each action.
void RunSchedule(const std::vector<Action>& actions, Stage& stage, Group& pipeline,
                 const std::function<void(const Action&)>& before = nullptr);

// The forward part of a list: what an evaluation runs.
std::vector<Action> ForwardOnly(const std::vector<Action>& actions);

}  // namespace trefoil
