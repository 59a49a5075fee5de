// What the forward and the backward of attention on the CPU share: the blocks and how heads are loaded into them.
//
// Everything inside a block is fp32 in padded rows (gemm.h). A head's keys are cut into blocks of kBlock; the
// queries likewise. Key block j meets query block i only where j <= i; j == i is the one that is partly masked.
#pragma once

#include "runtime/kernels/dropout.h"
#include "runtime/kernels/gemm.h"
#include "runtime/kernels/vector.h"

namespace trefoil::cpu {

inline constexpr int64_t kBlock = 64;
static_assert(kBlock % kGemmColumns == 0);

// Where head `head` of the fused columns starts in row 0 of sequence `b`.
struct HeadRows {
  int64_t offset, stride;
};
inline HeadRows QueryRows(const AttentionShape& s, int64_t b, int64_t head) {
  return {b * s.tokens * s.columns() + head * s.head_dim, s.columns()};
}
inline HeadRows KeyRows(const AttentionShape& s, int64_t b, int64_t kv_head) {
  return QueryRows(s, b, s.heads + kv_head);
}
inline HeadRows ValueRows(const AttentionShape& s, int64_t b, int64_t kv_head) {
  return QueryRows(s, b, s.heads + s.kv_heads + kv_head);
}
inline HeadRows OutputRows(const AttentionShape& s, int64_t b, int64_t head) {
  return {b * s.tokens * s.heads * s.head_dim + head * s.head_dim, s.heads * s.head_dim};
}

// to[r][0..padded) = scale * from[r][0..columns), padded with zeros.
template <typename T>
inline void LoadRows(const T* from, int64_t stride, int64_t rows, int64_t columns, float scale, float* to,
                     int64_t padded) {
  for (int64_t r = 0; r < rows; ++r) {
    const T* row = from + r * stride;
    float* out = to + r * padded;
#pragma omp simd
    for (int64_t d = 0; d < columns; ++d) out[d] = static_cast<float>(row[d]) * scale;
    for (int64_t d = columns; d < padded; ++d) out[d] = 0;
  }
}

// to[d][r] = from[r][d] in rows of kBlock, with zeros from `rows` to kBlock.
template <typename T>
inline void LoadTransposed(const T* from, int64_t stride, int64_t rows, int64_t columns, float* to) {
  for (int64_t d = 0; d < columns; ++d) {
    float* out = to + d * kBlock;
    for (int64_t r = 0; r < rows; ++r) out[r] = static_cast<float>(from[r * stride + d]);
    for (int64_t r = rows; r < kBlock; ++r) out[r] = 0;
  }
}

template <typename T>
inline void StoreRows(const float* from, int64_t padded, int64_t rows, int64_t columns, float scale, T* to,
                      int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = from + r * padded;
    T* out = to + r * stride;
#pragma omp simd
    for (int64_t d = 0; d < columns; ++d) Store(out[d], row[d] * scale);
  }
}

// The factors (dropout.h) of the weights of `count` keys from `key` on, of one query.
inline const float* AttentionDropoutFactors(const AttentionShape& shape, const AttentionDropout& dropout, int64_t b,
                                            int64_t head, int64_t query, int64_t key, int64_t count, float* buffer) {
  const int64_t sequence = dropout.mask.first_row / shape.tokens + b;
  const int64_t first =
      ((sequence * dropout.global_heads + dropout.first_head + head) * shape.tokens + query) * shape.tokens + key;
  return DropoutFactors(dropout.mask, static_cast<uint64_t>(first), count, buffer);
}

// Calls f(task, scratch) for every task, each thread with `floats` of scratch of its own. Tasks are handed out one by
// one; they write different elements, so who does which changes nothing.
template <typename F>
inline void ParallelTasks(const CpuContext& cpu, int64_t tasks, int64_t floats, const F& f) {
  floats = PadColumns(floats);
  const int threads = static_cast<int>(std::min<int64_t>(cpu.threads, tasks));
  const Workspace workspace(cpu, floats * std::max(threads, 1));
  if (cpu.dry) return;
  float* scratch = workspace.data();
  const auto run = [&](int64_t task, float* own) { cpu.avx512 ? CallWide(f, task, own) : f(task, own); };
  if (threads <= 1) {
    for (int64_t i = 0; i < tasks; ++i) run(i, scratch);
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (int64_t i = 0; i < tasks; ++i) run(i, scratch + omp_get_thread_num() * floats);
}

}  // namespace trefoil::cpu
