// Parameters, declared once. Building the model from its config, with no device and no mesh, fills a ParameterTable;
// this rank's slices, initial values, ZeRO placement, gradient reduction, the checkpoint, the planner's bytes and the
// parameter count are all derived from it. Nothing else knows a parameter by its position.
//
//   table.Add({.name = "blocks.3.mlp.down.weight", .home = 4, .shape = {hidden, feed_forward}, .split_dim = 1,
//              .initial = Initial::kNormal, .deviation = 0.02f, .decay = true});
//
// Home: the piece of the network that uses a parameter: 0 the embedding, 1 .. L the blocks, L + 1 the head. A pipeline
// stage holds some homes, and with them their parameters.
// Threads: immutable once built.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/tensor.h"

namespace trefoil {

enum class Initial { kZeros, kOnes, kNormal };

struct Parameter {
  std::string name;
  int home = 0;
  // A second home that uses the same parameter (the tied embedding: the head); -1: none. If the two homes lie on
  // different stages, both hold it and their gradients are added.
  int tied_home = -1;
  // Global. One or two dims.
  Shape shape;
  // The dim that is split over the tensor axis, in parts [n i / t, n (i + 1) / t); -1: every tensor rank holds all.
  int split_dim = -1;
  // Used on tokens that sequence parallelism splits over the tensor axis: with it, each tensor rank's gradient is a sum
  // over its own tokens and must be added over the axis. Only where split_dim is -1.
  bool used_on_split_tokens = false;
  Initial initial = Initial::kZeros;
  float deviation = 0;  // of kNormal
  // Whether weight decay applies: matrices and embeddings, not biases and norms.
  bool decay = false;
  // Stored right behind the parameter declared before it (same home, same tail dims), so that both can be used as one
  // matrix: q, k, v; gate, up.
  bool fused_with_previous = false;
};

class ParameterTable {
 public:
  // CHECKs that the name is new.
  void Add(Parameter parameter);
  const std::vector<Parameter>& all() const { return parameters_; }
  // CHECKs that it exists.
  const Parameter& Find(const std::string& name) const;
  // Elements of the whole model; a tied parameter counts once.
  int64_t elements() const;

 private:
  std::vector<Parameter> parameters_;
  std::unordered_map<std::string, size_t> numbers_;  // by name
};

}  // namespace trefoil
