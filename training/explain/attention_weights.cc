#include "training/explain/attention_weights.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>

#include "training/explain/on_host.h"

namespace trefoil {
namespace {

// Rows of heads on the host.
struct HostHeads {
  HostHeads(Device& device, const HeadColumns& heads, int64_t head_dim)
      : values(OnHost<float>(device, heads.rows)), columns(heads.rows.dim(1)), first(heads.first), head_dim(head_dim) {}
  const float* Of(int64_t row, int64_t head) const {
    return values.data() + row * columns + first + head * head_dim;
  }
  const std::vector<float> values;
  const int64_t columns, first, head_dim;
};

}  // namespace

AttentionWeights AttentionWeightsOf(Device& device, const std::string& name, const AttentionShape& shape,
                                    const AttentionHeads& heads, const Tensor& log_sum_exp) {
  CHECK(heads.q.rows.dtype() == DType::kFloat32) << Name(heads.q.rows.dtype());
  AttentionWeights weights = {.name = name,
                              .samples = shape.batch,
                              .heads = shape.heads,
                              .queries = shape.tokens.tokens(),
                              .keys = shape.keys().tokens()};
  const HostHeads q(device, heads.q, shape.head_dim), k(device, heads.k, shape.head_dim);
  const std::vector<float> sums = OnHost<float>(device, log_sum_exp);
  const std::vector<float> bias = heads.bias.defined() ? OnHost<float>(device, heads.bias) : std::vector<float>();
  const int64_t middle = heads.bias.defined() ? (heads.bias.dim(0) - 1) / 2 : 0;
  const std::vector<int32_t> lengths =
      shape.lengths.defined() ? OnHost<int32_t>(device, shape.lengths)
                              : std::vector<int32_t>(static_cast<size_t>(shape.batch), static_cast<int32_t>(weights.keys));
  const std::vector<int32_t> starts =
      shape.starts.defined() ? OnHost<int32_t>(device, shape.starts)
                             : std::vector<int32_t>(static_cast<size_t>(weights.samples * weights.queries));
  weights.values.resize(static_cast<size_t>(weights.samples * weights.heads * weights.queries * weights.keys));
  auto value = weights.values.begin();
  auto sum = sums.begin();
  for (int64_t b = 0; b < weights.samples; ++b) {
    for (int64_t h = 0; h < weights.heads; ++h) {
      const int64_t of_keys = h / (shape.heads / shape.kv_heads);
      for (int64_t query = 0; query < weights.queries; ++query, ++sum, value += weights.keys) {
        const int64_t seen = std::min<int64_t>(shape.Seen(query), lengths[static_cast<size_t>(b)]);
        const float* x = q.Of(b * weights.queries + query, h);
        const int64_t start = starts[static_cast<size_t>(b * weights.queries + query)];
        for (int64_t key = std::max(start, shape.FirstSeen(query)); key < seen; ++key) {
          const float* y = k.Of(b * weights.keys + key, of_keys);
          double score = 0;
          for (int64_t d = 0; d < shape.head_dim; ++d) score += static_cast<double>(x[d]) * y[d];
          score *= shape.score_scale();
          if (!bias.empty()) score += bias[static_cast<size_t>((key - query + middle) * heads.bias.dim(1) + h)];
          value[key] = static_cast<float>(std::exp(score - *sum));
        }
      }
    }
  }
  return weights;
}

}  // namespace trefoil
