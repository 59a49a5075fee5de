#include <cmath>

#include "runtime/kernels/cpu/attention.h"
#include "runtime/kernels/cpu/attention_bf16.h"

namespace trefoil::cpu {
namespace {

struct Layout : ScratchLayout {
  explicit Layout(const AttentionShape& s) : padded(PadColumns(s.head_dim)) {
    const int64_t tokens = Blocks(s.tokens, kBlock) * kBlock;
    keys = Take(tokens * s.head_dim);
    values = Take(tokens * padded);
    for (int64_t* offset : {&queries, &out}) *offset = Take(kBlock * padded);
    weights = Take(kBlock * kBlock);
  }
  int64_t padded;        // columns of a padded row of D
  int64_t keys;          // per key block [D, kBlock]
  int64_t values;        // [T, padded]
  int64_t queries, out;  // [kBlock, padded]
  int64_t weights;       // [kBlock, kBlock]
};

template <typename T>
void Head(const GemmKernel& gemm, const T* qkv, const AttentionShape& shape, const AttentionDropout& dropout, int64_t b,
          int64_t head, const Layout& layout, float* scratch, T* out, float* log_sum_exp) {
  const int64_t tokens = shape.tokens, dim = shape.head_dim, padded = layout.padded;
  const int64_t kv_head = head / (shape.heads / shape.kv_heads);
  const HeadRows query = QueryRows(shape, b, head), key = KeyRows(shape, b, kv_head),
                 value = ValueRows(shape, b, kv_head), output = OutputRows(shape, b, head);
  float *keys = scratch + layout.keys, *values = scratch + layout.values, *queries = scratch + layout.queries;
  float *weights = scratch + layout.weights, *sum = scratch + layout.out;
  for (int64_t k0 = 0; k0 < tokens; k0 += kBlock) {
    LoadTransposed(qkv + key.offset + k0 * key.stride, key.stride, std::min(kBlock, tokens - k0), dim, keys + k0 * dim,
                   kBlock);
  }
  LoadRows(qkv + value.offset, value.stride, tokens, dim, 1.0f, values, padded);
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  Running running;
  for (int64_t q0 = 0; q0 < tokens; q0 += kBlock) {
    const int64_t rows = std::min(kBlock, tokens - q0);
    LoadRows(qkv + query.offset + q0 * query.stride, query.stride, rows, dim, scale, queries, padded);
    for (int64_t k0 = 0; k0 <= q0; k0 += kBlock) {
      const int64_t columns = std::min(kBlock, tokens - k0);
      gemm.block(rows, PadColumns(columns), dim, {queries, padded, 1}, keys + k0 * dim, kBlock, weights, kBlock, false);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t valid = std::min(columns, q0 + r - k0 + 1);
        UpdateRow(weights + r * kBlock, 1.0f, valid, columns, running, r, sum + r * padded, padded, k0 == 0);
        if (dropout.mask.probability > 0) {
          float buffer[DropoutBuffer(kBlock)];
          const float* factors = AttentionDropoutFactors(shape, dropout, b, head, q0 + r, k0, valid, buffer);
          for (int64_t k = 0; k < valid; ++k) weights[r * kBlock + k] *= factors[k];
        }
      }
      gemm.block(rows, padded, columns, {weights, kBlock, 1}, values + k0 * padded, padded, sum, padded, k0 > 0);
    }
    StoreQueries(running, sum, padded, rows, dim, out + output.offset + q0 * output.stride, output.stride,
                 log_sum_exp + (b * shape.heads + head) * tokens + q0);
  }
}

}  // namespace

void Attention(const CpuContext& cpu, const Tensor& qkv, const AttentionShape& shape, const AttentionDropout& dropout,
               const Tensor& out, const Tensor& log_sum_exp) {
  if (out.elements() == 0) return;
  if (cpu.bf16 != nullptr && qkv.dtype() == DType::kBFloat16) {
    return AttentionBf16(cpu, qkv, shape, dropout, out, log_sum_exp);
  }
  const Layout layout(shape);
  float* sums = log_sum_exp.data<float>();
  WithType(qkv.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* in = qkv.data<T>();
    T* to = out.data<T>();
    ParallelTasks(cpu, shape.batch * shape.heads, layout.total, [&](int64_t task, float* scratch) {
      Head(*cpu.gemm, in, shape, dropout, task / shape.heads, task % shape.heads, layout, scratch, to, sums);
    });
  });
}

}  // namespace trefoil::cpu
