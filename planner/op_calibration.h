// The ops of a training step, each at the sizes that `trefoil calibrate` times.
//
//   for (const CalibratedOp& op : CalibratedOps()) {
//     op.calls(device, DType::kBFloat16, [&](const std::function<void()>& call) { call(); /* again, with a watch */ });
//   }
//
// Sizes are those of models from hidden size 64 to 1024 on micro-batches of 64 to 4096 tokens, in all operand layouts
// that a step has; the largest takes 7 GFLOP.
#pragma once

#include <functional>
#include <vector>

#include "runtime/device.h"

namespace trefoil {

struct CalibratedOp {
  const char* name;  // as its OpCount says
  // Calls `measure` for each size, in order, with a function that runs the op once and may be called any number of
  // times. Tensors live for one size. `dtype`: of activations.
  using Measure = std::function<void(const std::function<void()>& call)>;
  std::function<void(Device& device, DType dtype, const Measure& measure)> calls;
};

std::vector<CalibratedOp> CalibratedOps();

}  // namespace trefoil
