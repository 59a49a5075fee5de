// The end of a run whose held-out loss or accuracy gets no better: training.early_stop.
//
//   if (NoteEvaluation(config.training().early_stop(), evaluation, &state)) ...   // the best so far: save it
//   if (StopsEarly(config.training().early_stop(), state)) ...                    // the run is finished
//
// What has been best, and since when, is part of the trainer's state, whose step is the evaluation's, so that a run
// that goes on from a checkpoint stops where it would have.
//
// Threads: pure functions.
#pragma once

#include <string>

#include "training/step.h"
#include "training/trainer_state.pb.h"

namespace trefoil {

// Takes an evaluation after state.step() into the state; whether it is better than all before it. False where there is
// no early stop.
bool NoteEvaluation(const EarlyStopConfig& config, const Evaluation& evaluation, TrainerState* state);

// Whether as many evaluations as the config allows have not been better than the best.
bool StopsEarly(const EarlyStopConfig& config, const TrainerState& state);

// "the held-out loss was best at step 400 (3.745), and the 3 evaluations since were not better"
std::string EarlyStopText(const TrainerState& state);

}  // namespace trefoil
