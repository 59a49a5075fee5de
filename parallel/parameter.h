// Parameters, declared once. Building the model from its config, with no device and no mesh, fills a ParameterTable;
// this rank's slices, initial values, ZeRO placement, gradient reduction, the checkpoint, the planner's bytes and the
// parameter count are all derived from it. Nothing else knows a parameter by its position.
//
//   table.Add({.name = "blocks.3.mlp.down.weight", .module = 4, .shape = {hidden, feed_forward},
//              .splits = {{.dim = 1, .axis = Axis::kTensor}},
//              .initial = Initial::kNormal, .deviation = 0.02f, .decay = true});
//
// A parameter belongs to the module of the network that uses it. Modules are numbers here, their places in the model's
// list (model/module.h): 0 the embedding, then the blocks, last the head. A pipeline stage holds some modules, and with
// them their parameters.
//
// Threads: immutable once built.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

#include "parallel/axes.h"
#include "runtime/tensor.h"

namespace trefoil {

enum class Initial { kZeros, kOnes, kNormal };

// A dim of n elements in parts [n i / t, n (i + 1) / t) over an axis of t ranks.
struct ParameterSplit {
  int dim = 0;
  Axis axis = Axis::kTensor;
  bool operator==(const ParameterSplit&) const = default;
};

struct Parameter {
  std::string name;
  int module = 0;
  // Further modules that use the same parameter (of the tied embedding: the head). Where they lie on several stages, each
  // holds it and their gradients are added.
  std::vector<int> tied_modules = {};
  // Global. One to three dims.
  Shape shape;
  // Each axis and each dim once at most; over the axes not named every rank holds all.
  std::vector<ParameterSplit> splits = {};
  // The axes over which its gradient may be a partial sum, besides those that split samples or their tokens for the
  // whole network, over which every gradient is one unless the parameter is split over them: with kTensor, where
  // sequence parallelism splits the tokens that it is used on. Must then be added over these axes.
  AxisSet partial_over = {};
  // The axes over which its gradient is a partial sum in any run, tokens split or not.
  AxisSet summed_over = {};
  Initial initial = Initial::kZeros;
  float deviation = 0;  // of kNormal
  // Whether weight decay applies: matrices and embeddings, not biases and norms.
  bool decay = false;
  // Its share of the run's learning rate. 0: it is not trained, and has no gradient and no optimizer state.
  double rate = 1;
  // Stored right behind the parameter declared before it (same module, same tail dims), so that both can be used as one
  // matrix: q, k, v; gate, up.
  bool fused_with_previous = false;

  bool trained() const { return rate > 0; }
  AxisSet split_over() const;
  // The axes over which it is replicated and its gradient is always a partial sum: those that split samples or their
  // tokens, and not it.
  AxisSet replicated_over() const {
    return (AxisSet::Of(AxisSplits::kSamples) | AxisSet::Of(AxisSplits::kTokens)) - split_over();
  }
};

class ParameterTable {
 public:
  // CHECKs that the name is new.
  void Add(Parameter parameter);
  const std::deque<Parameter>& all() const { return parameters_; }
  // CHECKs that it exists.
  const Parameter& Find(const std::string& name) const;
  // Elements of the whole model; a tied parameter counts once.
  int64_t elements() const;
  // Of those that are trained.
  int64_t trained_elements() const;
  // The number of the first module that uses something that is trained; CHECKs that there is one.
  int first_trained_module() const;

 private:
  std::deque<Parameter> parameters_;
  std::unordered_map<std::string, size_t> numbers_;  // by name
};

}  // namespace trefoil
