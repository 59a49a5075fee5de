// What the forward and the backward of attention on the CPU share: the blocks and how heads are loaded into them.
//
// In fp32, and in bf16 on CPUs without bf16 instructions, everything inside a block is fp32 in padded rows (gemm.h). A
// head's keys are cut into blocks of kBlock; the queries likewise. Key block j meets query block i only where j <= i;
// j == i is the one that is partly masked. With bf16 instructions, see attention_bf16.h.
#pragma once

#include <cmath>

#include "runtime/kernels/cpu/gemm.h"
#include "runtime/kernels/cpu/vector.h"
#include "runtime/kernels/dropout.h"

namespace trefoil::cpu {

inline constexpr int64_t kBlock = 64;
static_assert(kBlock % kGemmColumns == 0);

// Lays out the scratch of one thread, in floats. Offsets are multiples of kGemmColumns.
struct ScratchLayout {
  int64_t Take(int64_t floats) {
    const int64_t at = total;
    total += PadColumns(floats);
    return at;
  }
  int64_t total = 0;
};

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

// to[d][r] = from[r][d] in rows of `length`, with zeros from `rows` to `length`.
template <typename T, typename To>
inline void LoadTransposed(const T* from, int64_t stride, int64_t rows, int64_t columns, To* to, int64_t length) {
  for (int64_t d = 0; d < columns; ++d) {
    To* out = to + d * length;
    for (int64_t r = 0; r < rows; ++r) out[r] = static_cast<To>(from[r * stride + d]);
    for (int64_t r = rows; r < length; ++r) out[r] = To(0.0f);
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

// The running softmax of one block of queries: maximum and sum of exp(score - maximum) so far.
struct Running {
  float maximum[kBlock], sum[kBlock];
};

// Turns row `r`'s scores, to be multiplied by `scale`, into exp(score - maximum) over the `valid` first keys, zero
// after them, and brings the sum and the output so far to the new maximum.
inline void UpdateRow(float* scores, float scale, int64_t valid, int64_t columns, Running& running, int64_t r,
                      float* out, int64_t padded, bool first) {
  const float before = first ? -std::numeric_limits<float>::infinity() : running.maximum[r];
  const float maximum = std::max(before, Maximum(scores, valid) * scale);
  const float sum = SumLanes<float>(valid, [=](int64_t k) { return scores[k] = Exp(scores[k] * scale - maximum); });
  for (int64_t k = valid; k < columns; ++k) scores[k] = 0;
  if (first) {
    running.sum[r] = sum;
  } else {
    const float factor = Exp(before - maximum);
    running.sum[r] = running.sum[r] * factor + sum;
#pragma omp simd
    for (int64_t d = 0; d < padded; ++d) out[d] *= factor;
  }
  running.maximum[r] = maximum;
}

// out [rows, columns] = sum / running.sum, and the log of the sum of exp(score), when all keys are added.
template <typename T>
inline void StoreQueries(const Running& running, const float* sum, int64_t padded, int64_t rows, int64_t columns,
                         T* out, int64_t stride, float* log_sum_exp) {
  for (int64_t r = 0; r < rows; ++r) {
    StoreRows(sum + r * padded, padded, 1, columns, 1.0f / running.sum[r], out + r * stride, stride);
    log_sum_exp[r] = running.maximum[r] + std::log(running.sum[r]);
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
