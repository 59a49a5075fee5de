// The end of a step: what the global gradient norm is made of, clipping, the optimizer on this rank's share of each
// bucket, working weights brought up to date.
//
// Threads: the rank's main thread, after GradientReducer::Finish.
#pragma once

#include <memory>
#include <vector>

#include "parallel/gradient_reducer.h"
#include "parallel/optimizer_layout.h"
#include "parallel/parameter_store.h"
#include "training/training.pb.h"

namespace trefoil {

// What all parameters of a step have in common.
struct OptimizerStep {
  double learning_rate = 0;  // each has its share of it (Parameter::rate)
  int64_t number = 1;        // from 1; steps that updated nothing are not counted
  float gradient_scale = 1;  // what gradients are multiplied by first: clipping
};

// An optimizer: what it keeps for each parameter, and one step on a bucket. The store, the planner and the checkpoint
// follow from its layout; a new one is an implementation here and a choice in the config.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  virtual const OptimizerLayout& layout() const = 0;
  // One step on this rank's share of a trained bucket: from its gradients brings its master weights, its state and,
  // where they are apart, its working weights up to date. Leaves the gradients as they are.
  virtual void Update(Device& device, BucketMemory& memory, const OptimizerStep& step) const = 0;
};

// AdamW (training/optimizer/adamw.h), the only one so far.
std::unique_ptr<Optimizer> NewOptimizer(const OptimizerConfig& config);

// The gradients that this rank owns: over all ranks of the job, each element of the whole model's gradient once. The
// square of its Euclidean norm is the sum of their squares.
std::vector<Tensor> OwnedGradients(ParameterStore& store);

// Makes all gradients zero.
void ClearGradients(ParameterStore& store, Device& device);

// What gradients of this global norm are multiplied by: min(1, clip_norm / norm); 1 if clip_norm is 0.
float ClippingScale(const OptimizerConfig& config, double gradient_norm);

// One step on every trained bucket; gradients are zero on return. Each bucket's weights are gathered while the next is
// updated.
void UpdateParameters(ParameterStore& store, Device& device, GradientReducer& reducer, const Optimizer& optimizer,
                      const OptimizerStep& step);

}  // namespace trefoil
