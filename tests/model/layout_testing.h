// Training the same run on different layouts, ranks as threads, and comparing what came out.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/model/model_testing.h"

namespace trefoil {

// The model's state as global tensors, by the names of ParameterStore::State.
using GlobalState = std::map<std::string, std::vector<float>>;

struct Trace {
  std::vector<double> losses, norms;  // of each step
  double held_out = 0;                // after the last step
  GlobalState initial;                // before the first step
  GlobalState first;                  // after it; where nothing is clipped, adam.m is (1 - beta1) x the gradient
};

// Trains `steps` steps. Expects on the way: every element of the state is owned by exactly one rank; ranks that hold
// copies of the same elements hold the same bits; every rank is told the same losses and norms.
Trace Train(const RunConfig& config, int steps);

struct Deviation {
  double loss = 0, norm = 0;  // worst relative difference of any step
};
Deviation Compare(const Trace& trace, const Trace& reference);

// Expects the two to be the same run: losses (held-out too) within `loss`, norms within `norm`, relative; the first
// step's gradient of every element within `gradient` (see ExpectClose); the initial weights to the bit.
struct Tolerances {
  double loss = 1e-6, norm = 1e-5, gradient = 3e-5;
};
void ExpectSameRun(const Trace& trace, const Trace& reference, const Tolerances& tolerances = {});

}  // namespace trefoil
