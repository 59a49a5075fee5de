// What an optimizer keeps, declared: how many tensors of state for each parameter, and whether it works on single
// elements or on whole parameters. Where they lie (parallel/placement.h), the planner's bytes and the checkpoint's
// names are derived.
//
//   AdamW: one group, state {"adam.m", "adam.v"}, of single elements
//
// Threads: plain values.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "parallel/parameter.h"

namespace trefoil {

// Parameters that are treated alike. Each is in a bucket with others of its group only.
struct OptimizerGroup {
  // Of float32 with the shape of the parameter, zero at first: "adam.m" of parameter NAME is "adam.m/NAME" in a
  // checkpoint.
  std::vector<std::string> state = {};
  // With a split optimizer, no parameter is cut between the ranks that share the state: each one's state, and the
  // update, is one rank's. Parameters that are fused stay together. The ranks' shares are equal, so that of the fuller
  // rank is the size of all: a few large parameters leave room unused.
  bool whole_parameters = false;
};

struct OptimizerLayout {
  std::vector<OptimizerGroup> groups = {{}};
  // Number of a parameter's group; unset: 0 for all.
  std::function<size_t(const Parameter&)> group_of = nullptr;

  size_t GroupOf(const Parameter& parameter) const { return group_of ? group_of(parameter) : 0; }
};

}  // namespace trefoil
