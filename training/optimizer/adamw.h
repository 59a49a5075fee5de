// AdamW (Loshchilov & Hutter 2019, algorithm 2) on single elements: state "adam.m" and "adam.v".
#pragma once

#include "training/optimizer/optimizer.h"

namespace trefoil {

class AdamWOptimizer : public Optimizer {
 public:
  explicit AdamWOptimizer(const OptimizerConfig& config) : config_(config) {}
  const OptimizerLayout& layout() const override { return layout_; }
  void Update(Device& device, BucketMemory& memory, const OptimizerStep& step) const override;

 private:
  const OptimizerConfig config_;
  const OptimizerLayout layout_ = {.groups = {{.state = {"adam.m", "adam.v"}}}};
};

}  // namespace trefoil
