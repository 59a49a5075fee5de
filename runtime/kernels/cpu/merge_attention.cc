#include <cmath>

#include "runtime/kernels/cpu/vector.h"

namespace trefoil::cpu {

void MergeAttention(const CpuContext& cpu, const Tensor& out, const Tensor& log_sum_exp, const Tensor& part,
                    const Tensor& part_log_sum_exp) {
  const int64_t batch = log_sum_exp.dim(0), heads = log_sum_exp.dim(1), tokens = log_sum_exp.dim(2);
  const int64_t dim = out.dim(1) / heads;
  float* sums = log_sum_exp.data<float>();
  const float* part_sums = part_log_sum_exp.data<float>();
  WithType(out.dtype(), [&](auto type) {
    WithType(part.dtype(), [&](auto part_type) {
      auto* to = out.data<decltype(type)>();
      const auto* from = part.data<decltype(part_type)>();
      // A row here is a token's head.
      ParallelBlocks(cpu, batch * tokens * heads, RowGrain(dim), [=](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          const int64_t b = row / heads / tokens, t = row / heads % tokens, at = (b * heads + row % heads) * tokens + t;
          if (part_sums[at] == -std::numeric_limits<float>::infinity()) continue;
          // With a first part of no keys, exp of -infinity makes the share 1.
          const float difference = part_sums[at] - sums[at], share = 1.0f / (1.0f + std::exp(-difference));
          auto* x = to + row * dim;
          const auto* y = from + row * dim;
#pragma omp simd
          for (int64_t d = 0; d < dim; ++d) {
            const float before = static_cast<float>(x[d]);
            Store(x[d], before + share * (static_cast<float>(y[d]) - before));
          }
          sums[at] = std::max(sums[at], part_sums[at]) + std::log1p(std::exp(-std::abs(difference)));
        }
      });
    });
  });
}

}  // namespace trefoil::cpu
