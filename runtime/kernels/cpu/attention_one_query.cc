// Attention of one query of each sample: a token that is written. Keys and values are read once, as they lie.
#include "runtime/kernels/cpu/attention.h"

namespace trefoil::cpu {
namespace {

// sum over d of a[d] * b[d].
template <typename T>
float Dot(const float* a, const T* b, int64_t n) {
  return SumLanes<float>(n, [=](int64_t d) { return a[d] * static_cast<float>(b[d]); });
}

template <typename T>
void Head(const AttentionHeads& in, const AttentionShape& shape, int64_t b, int64_t head, float* scratch,
          const HeadColumns& out, float* log_sum_exp) {
  const int64_t keys = shape.keys().tokens(), dim = shape.head_dim, kv_head = head / (shape.heads / shape.kv_heads);
  const HeadRows<T> query(in.q, b, 1, head, dim), key(in.k, b, keys, kv_head, dim), value(in.v, b, keys, kv_head, dim),
      output(out, b, 1, head, dim);
  const SeenKeys seen(shape, ExistingKeys(shape, b), b, 0, 1);
  const int64_t begin = std::min(seen.from[0], seen.of[0]), count = seen.of[0] - begin;
  float *q = scratch, *sum = q + PadColumns(dim), *weights = sum + PadColumns(dim);
  LoadRows(query.Row(0), query.stride, 1, dim, shape.score_scale(), q, PadColumns(dim));
  std::fill_n(sum, dim, 0.0f);
  for (int64_t k = 0; k < count; ++k) weights[k] = Dot(q, key.Row(begin + k), dim);
  if (in.bias.defined()) {
    const ByDistance bias(weights + PadColumns(keys), Distances(in));
    bias.Load(in.bias, head, RowsOf::kQueries);
    bias.AddTo(weights, 1.0f, shape.tokens.Position(0), shape.keys(), begin, count);
  }
  Running running(1);
  UpdateRow(weights, 1.0f, 0, count, count, running, 0, sum, 0);
  for (int64_t k = 0; k < count; ++k) {
    const T* row = value.Row(begin + k);
    const float weight = weights[k];
#pragma omp simd
    for (int64_t d = 0; d < dim; ++d) sum[d] += weight * static_cast<float>(row[d]);
  }
  StoreQueries(running, sum, dim, 1, dim, output.Row(0), output.stride, log_sum_exp + b * shape.heads + head);
}

}  // namespace

void AttentionOfOneQuery(const CpuContext& cpu, const AttentionHeads& in, const AttentionShape& shape,
                         const Tensor& out, const Tensor& log_sum_exp) {
  const int64_t floats = 2 * PadColumns(shape.head_dim) + PadColumns(shape.keys().tokens()) + PadColumns(Distances(in));
  WithType(out.dtype(), [&](auto type) {
    ParallelTasks(cpu, shape.batch * shape.heads, floats, [&](int64_t task, float* scratch) {
      Head<decltype(type)>(in, shape, task / shape.heads, task % shape.heads, scratch, {out, 0},
                           log_sum_exp.data<float>());
    });
  });
}

}  // namespace trefoil::cpu
