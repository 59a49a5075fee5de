// Relative position bias of attention on the CPU (AttentionHeads::bias): one head's column of the table, added to
// scores row by row, and the sums of its gradient.
//
// A row of scores is a query's, over keys, or in the transposed blocks of attention_bf16_backward.cc a key's, over
// queries. In each run of neighbours along it the distance rises by one, so the column is read, and its gradient added
// to, as it lies: for rows of queries in order of key - query, for rows of keys in order of query - key.
#pragma once

#include <algorithm>
#include <optional>

#include "runtime/kernels/cpu/vector.h"

namespace trefoil::cpu {

enum class RowsOf : bool { kQueries, kKeys };

// Rows R of the bias; 0 where there is none.
inline int64_t Distances(const AttentionHeads& in) { return in.bias.defined() ? in.bias.dim(0) : 0; }

// [R], by distance from a row's own position.
class ByDistance {
 public:
  ByDistance(float* values, int64_t distances) : values_(values), middle_(distances / 2) {}

  // The column of a head.
  void Load(const Tensor& bias, int64_t head, RowsOf rows) const {
    const int64_t distances = bias.dim(0), heads = bias.dim(1);
    WithType(bias.dtype(), [&](auto type) {
      const auto* from = bias.data<decltype(type)>() + head;
      for (int64_t i = 0; i < distances; ++i) {
        values_[i] = static_cast<float>(from[(rows == RowsOf::kQueries ? i : distances - 1 - i) * heads]);
      }
    });
  }
  // scores[i] = scale * scores[i] + bias, over `count` columns from number `first` of `columns` on, in the row of
  // `position`.
  void AddTo(float* scores, float scale, int64_t position, const TokenRanges& columns, int64_t first,
             int64_t count) const {
    columns.ForEachRun(first, count, [=, this](int64_t done, int64_t n, int64_t start) {
      const float* const bias = values_ + (start - position + middle_);
      float* const to = scores + done;
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) to[i] = to[i] * scale + bias[i];
    });
  }
  // The other way round: the values += a row's gradients.
  void Add(const float* d_scores, int64_t position, const TokenRanges& columns, int64_t first, int64_t count) const {
    columns.ForEachRun(first, count, [=, this](int64_t done, int64_t n, int64_t start) {
      float* const to = values_ + (start - position + middle_);
      const float* const from = d_scores + done;
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) to[i] += from[i];
    });
  }

 private:
  float* values_;
  int64_t middle_;
};

// The bias's gradient in parts, one for each head of each sample, which are added in order of sample: who computes
// which changes nothing. Where no gradient is wanted it has no parts.
class BiasGradient {
 public:
  BiasGradient(const CpuContext& cpu, const AttentionShape& s, const Tensor& gradient, RowsOf rows)
      : cpu_(cpu), shape_(s), gradient_(gradient), rows_(rows) {
    if (gradient.defined()) parts_.emplace(cpu, s.batch * s.heads * gradient.dim(0));
  }
  bool wanted() const { return gradient_.defined(); }
  // The part of a head, zeros at first; nothing where no gradient is wanted.
  ByDistance StartPart(int64_t b, int64_t head) const {
    if (!wanted()) return {nullptr, 0};
    const int64_t distances = gradient_.dim(0);
    float* const part = parts_->data() + (b * shape_.heads + head) * distances;
    std::fill_n(part, distances, 0.0f);
    return {part, distances};
  }
  // gradient += all parts.
  void AddParts() const {
    if (!wanted()) return;
    const int64_t distances = gradient_.dim(0), heads = shape_.heads, batch = shape_.batch;
    ParallelBlocks(cpu_, distances, RowGrain(batch * heads), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t at = rows_ == RowsOf::kQueries ? i : distances - 1 - i;
        for (int64_t head = 0; head < heads; ++head) {
          float sum = 0;
          for (int64_t b = 0; b < batch; ++b) sum += parts_->data()[(b * heads + head) * distances + at];
          gradient_.data<float>()[i * heads + head] += sum;
        }
      }
    });
  }

 private:
  const CpuContext& cpu_;
  const AttentionShape& shape_;
  const Tensor& gradient_;
  const RowsOf rows_;
  std::optional<Workspace> parts_;
};

}  // namespace trefoil::cpu
