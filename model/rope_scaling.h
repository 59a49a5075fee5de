// The frequencies of a network's rotary positions, from model.rope_theta and model.rope_scaling.
//
// Threads: a pure function.
#pragma once

#include "model/model.pb.h"
#include "runtime/rotary.h"

namespace trefoil {

// Of a config with its defaults filled in.
RotaryFrequencies RotaryFrequenciesOf(const ModelConfig& config);

}  // namespace trefoil
