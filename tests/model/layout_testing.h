// Training the same run on different layouts, ranks as threads, and comparing what came out.
#pragma once

#include <algorithm>
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
  GlobalState last;                   // after the last step
};

// Trains `steps` steps. Expects on the way: every element of the state is owned by exactly one rank; ranks that hold
// copies of the same elements hold the same bits; every rank is told the same losses and norms. On LearnableTokens, or
// on `source`.
Trace Train(const RunConfig& config, int steps, const BatchSource& source = {},
            const NewWorker& new_worker = nullptr);

struct Deviation {
  double loss = 0, norm = 0;  // worst relative difference of any step
  // Of the weights and moments after the last step: the worst tensor's root mean square of the difference, relative to that
  // of how far the tensor has come from its initial state.
  double state = 0;
  // To the worse of both.
  void Raise(const Deviation& other) {
    loss = std::max(loss, other.loss);
    norm = std::max(norm, other.norm);
    state = std::max(state, other.state);
  }
};
// Without the state of parameters whose gradient's root mean square is below `noise` of the largest: of a GPT's key biases,
// which its softmax does not see, it is zero but for rounding, out of which AdamW makes steps of full length.
Deviation Compare(const Trace& trace, const Trace& reference, double noise = 1e-5);

// Expects the two to be the same run: losses (held-out too) within `loss`, norms within `norm`, relative; the first
// step's gradient of every element within `gradient` (see ExpectClose), and its projection on the reference's, tensor by
// tensor, within `projection` of 1: rounding averages out in it, and the lost share of one of eight ranks makes it 7/8; the
// state after the last step within `state`; the initial weights to the bit.
struct Tolerances {
  double loss = 1e-6, norm = 1e-5, gradient = 3e-5, projection = 1e-4, state = 1e-3, noise = 1e-5;
};
void ExpectSameRun(const Trace& trace, const Trace& reference, const Tolerances& tolerances = {});

}  // namespace trefoil
