// What attention looks at: its weights, which no kernel ever writes down, computed anew from what it was told.
//
//   std::vector<AttentionWeights> maps;
//   predictor.Watch([&](const std::string& name, const auto& shape, const auto& heads, const Tensor& log_sum_exp) {
//     maps.push_back(AttentionWeightsOf(device, name, shape, heads, log_sum_exp));
//   });
//   predictor.Outputs(batch);
//   maps[3].Of(/*sample=*/0, /*head=*/2, /*query=*/5, /*key=*/7);
//
// For pictures: plain loops in double on the host.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/attention.h"
#include "runtime/device.h"

namespace trefoil {

struct AttentionWeights {
  std::string name;  // "decoder.blocks.2.cross"
  int64_t samples = 0, heads = 0, queries = 0, keys = 0;
  std::vector<float> values = {};  // [samples, heads, queries, keys]; 0 for keys that a query does not see

  float Of(int64_t sample, int64_t head, int64_t query, int64_t key) const {
    return values[static_cast<size_t>(((sample * heads + head) * queries + query) * keys + key)];
  }
};

// Of float32 heads whose queries and keys are whole sequences; arguments as of the op Attention (runtime/ops.h).
AttentionWeights AttentionWeightsOf(Device& device, const std::string& name, const AttentionShape& shape,
                                    const AttentionHeads& heads, const Tensor& log_sum_exp);

}  // namespace trefoil
