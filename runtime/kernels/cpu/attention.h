// What the forward and the backward of attention on the CPU share: the blocks and how heads are loaded into them.
//
// In fp32, and in bf16 on CPUs without bf16 instructions, everything inside a block is fp32 in padded rows (gemm.h). A
// head's keys are cut into blocks of kBlock; the queries likewise. What a query sees are rows of keys that follow each
// other, whose ends never fall from query to query, so a block of queries meets the blocks of keys from what its first
// query sees up to what its last one does. With bf16 instructions, see
// attention_bf16.h.
#pragma once

#include <cmath>

#include "runtime/kernels/cpu/attention_bias.h"
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

// The rows of head `head` of sample `b`.
template <typename T>
struct HeadRows {
  HeadRows(const HeadColumns& x, int64_t b, int64_t tokens, int64_t head, int64_t head_dim)
      : stride(x.rows.dim(1)), data(x.rows.data<T>() + b * tokens * stride + x.first + head * head_dim) {}
  T* Row(int64_t row) const { return data + row * stride; }
  int64_t stride;
  T* data;
};

// How many keys of sample `b` there are, its first rows; what comes after them is never read.
inline int64_t ExistingKeys(const AttentionShape& s, int64_t b) {
  return s.lengths.defined() ? s.keys().Before(s.lengths.data<int32_t>()[b]) : s.keys().tokens();
}

// Which of `existing` keys the queries of a block of sample `b` see, one by one: rows [from, of). The last of them sees
// up to the most. The block meets `begin` and the keys behind it.
struct SeenKeys {
  SeenKeys(const AttentionShape& s, int64_t existing, int64_t b, int64_t q0, int64_t rows)
      : most(s.Seen(q0 + rows - 1)) {
    const int32_t* starts = s.starts.defined() ? s.starts.data<int32_t>() + b * s.tokens.tokens() + q0 : nullptr;
    for (int64_t r = 0; r < rows; ++r) {
      from[r] = starts == nullptr ? 0 : s.keys().Before(starts[r]);
      if (s.window > 0) from[r] = std::max(from[r], s.FirstSeen(q0 + r));
    }
    const int64_t first = s.Seen(q0), steps = s.tokens.EndOfRange(q0) >= q0 + rows ? most - first : -1;
    if (steps == 0 || steps == rows - 1) {  // one range of queries: each sees as many more as the one before
      for (int64_t r = 0; r < rows; ++r) of[r] = steps == 0 ? first : first + r;
    } else {
      for (int64_t r = 0; r < rows; ++r) of[r] = s.Seen(q0 + r);
    }
    if (most <= existing) return;
    most = existing;
    for (int64_t r = 0; r < rows; ++r) of[r] = std::min(of[r], existing);
  }
  // Where the keys begin that the block meets, in steps of `block`.
  int64_t Begin(int64_t block) const { return from[0] / block * block; }
  bool empty(int64_t block) const { return Begin(block) >= most; }
  // Of a block of keys: columns [From, Of), which may be none.
  int64_t Of(int64_t r, int64_t k0, int64_t columns) const { return std::clamp<int64_t>(of[r] - k0, 0, columns); }
  int64_t From(int64_t r, int64_t k0, int64_t columns) const {
    return std::min(std::max<int64_t>(from[r] - k0, 0), Of(r, k0, columns));
  }
  int64_t from[kBlock], of[kBlock], most;
};

// As Attention, of one query of each sample (attention_one_query.cc).
void AttentionOfOneQuery(const CpuContext& cpu, const AttentionHeads& in, const AttentionShape& shape,
                         const Tensor& out, const Tensor& log_sum_exp);

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

// Where the gradient of head `head` of sample `b` goes: to float32, in place of or added to what is there, or to
// bfloat16.
struct HeadGradient {
  // Writes at(r, d) to rows [row, row + rows).
  template <typename At>
  void Write(int64_t row, int64_t rows, const At& at) const {
    WithType(x.rows.dtype(), [&](auto type) {
      const HeadRows<decltype(type)> to(x, b, tokens, head, head_dim);
      for (int64_t r = 0; r < rows; ++r) {
        auto* out = to.Row(row + r);
        if (add) {
#pragma omp simd
          for (int64_t d = 0; d < head_dim; ++d) Store(out[d], static_cast<float>(out[d]) + at(r, d));
        } else {
#pragma omp simd
          for (int64_t d = 0; d < head_dim; ++d) Store(out[d], at(r, d));
        }
      }
    });
  }
  // Writes scale * from [rows, padded].
  void Write(int64_t row, int64_t rows, const float* from, int64_t padded, float scale) const {
    Write(row, rows, [=](int64_t r, int64_t d) { return from[r * padded + d] * scale; });
  }

  const HeadColumns& x;
  int64_t b, tokens, head, head_dim;
  bool add;
};

// What the backward of attention is given; `kernel` multiplies the blocks, `layout` says where they lie in scratch.
template <typename Kernel, typename Layout>
struct BackwardArguments {
  const Kernel& kernel;
  const Tensor& d_out;
  const AttentionHeads& in;
  const Tensor &out, &log_sum_exp;
  const AttentionShape& shape;
  const AttentionDropout& dropout;
  const AttentionHeads& gradients;
  const bool add;
  const Layout& layout;
  const BiasGradient& d_bias;
};

// The running softmax of one block of queries: maximum and sum of exp(score - maximum) so far; of no keys at first.
struct Running {
  explicit Running(int64_t rows) {
    std::fill_n(maximum, rows, -std::numeric_limits<float>::infinity());
    std::fill_n(sum, rows, 0.0f);
  }
  float maximum[kBlock], sum[kBlock];
};

// Turns row `r`'s scores, to be multiplied by `scale`, into exp(score - maximum) over the keys [first, end), zero
// before and after them, and brings the sum and the output so far, if there is any, to the new maximum.
inline void UpdateRow(float* row, float scale, int64_t first, int64_t end, int64_t columns, Running& running, int64_t r,
                      float* out, int64_t padded) {
  std::fill_n(row, first, 0.0f);
  for (int64_t k = end; k < columns; ++k) row[k] = 0;
  if (first == end) return;
  float* const scores = row + first;
  const int64_t valid = end - first;
  const float before = running.maximum[r];
  const float maximum = std::max(before, Maximum(scores, valid) * scale);
  const float sum = SumLanes<float>(valid, [=](int64_t k) { return scores[k] = Exp(scores[k] * scale - maximum); });
  running.maximum[r] = maximum;
  if (before == -std::numeric_limits<float>::infinity()) {
    running.sum[r] = sum;
    return;
  }
  const float factor = Exp(before - maximum);
  running.sum[r] = running.sum[r] * factor + sum;
#pragma omp simd
  for (int64_t d = 0; d < padded; ++d) out[d] *= factor;
}

// out [rows, columns] = sum / running.sum, and the log of the sum of exp(score), when all keys are added.
template <typename T>
inline void StoreQueries(const Running& running, const float* sum, int64_t padded, int64_t rows, int64_t columns,
                         T* out, int64_t stride, float* log_sum_exp) {
  for (int64_t r = 0; r < rows; ++r) {
    const float factor = running.sum[r] == 0 ? 0.0f : 1.0f / running.sum[r];
    StoreRows(sum + r * padded, padded, 1, columns, factor, out + r * stride, stride);
    log_sum_exp[r] = running.maximum[r] + std::log(running.sum[r]);
  }
}

constexpr int64_t AttentionDropoutBuffer(int64_t count) { return DropoutBuffer(count) + count; }

// The factors (dropout.h) of the weights of `count` keys from row `key` on, of one query row. They lie in `buffer`, of
// AttentionDropoutBuffer(count) floats, from the place returned.
inline const float* AttentionDropoutFactors(const AttentionShape& s, const AttentionDropout& dropout, int64_t b,
                                            int64_t head, int64_t query, int64_t key, int64_t count, float* buffer) {
  const int64_t row = ((dropout.first_sequence + b) * dropout.global_heads + dropout.first_head + head) *
                          dropout.global_queries + s.tokens.Position(query);
  float* const joined = buffer + DropoutBuffer(count);
  const float* all = joined;
  s.keys().ForEachRun(key, count, [&](int64_t done, int64_t n, int64_t position) {
    const auto first = static_cast<uint64_t>(row * dropout.global_keys + position);
    const float* factors = DropoutFactors(dropout.probability, dropout.key, first, n, buffer);
    if (n == count) {
      all = factors;
    } else {
      std::copy_n(factors, n, joined + done);
    }
  });
  return all;
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
