#include <cmath>

#include "runtime/kernels/cpu/vector.h"

namespace trefoil::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A maximum of -infinity stands for no columns: then exp(x - maximum) must be 0, not NaN.
float Finite(float maximum) { return maximum == -kInfinity ? 0.0f : maximum; }

const float* WeightsOf(const Tensor& weights) { return weights.defined() ? weights.data<float>() : nullptr; }

void StatisticsRow(const float* logits, int64_t columns, int64_t target, bool summed, float* statistics) {
  const float maximum = Maximum(logits, columns), shift = Finite(maximum);
  const float sum = SumLanes<float>(columns, [=](int64_t j) { return Exp(logits[j] - shift); });
  statistics[0] = maximum;
  statistics[1] = sum;
  statistics[2] = 0 <= target && target < columns ? logits[target] : 0.0f;
  if (summed) statistics[3] = SumLanes<float>(columns, [=](int64_t j) { return logits[j]; });
}

// each: what label smoothing gives to each token but the target, which keeps 1 - share of the weight 1.
template <typename T>
void BackwardRow(const float* logits, int64_t columns, int64_t target, float log_sum_exp, float scale, float share,
                 float each, T* d_logits) {
  const bool mine = 0 <= target && target < columns;
  const float target_logit = mine ? logits[target] : 0.0f;
#pragma omp simd
  for (int64_t j = 0; j < columns; ++j) Store(d_logits[j], scale * (Exp(logits[j] - log_sum_exp) - each));
  if (mine) Store(d_logits[target], scale * (Exp(target_logit - log_sum_exp) - (1.0f - share)));
}

}  // namespace

void CrossEntropyStatistics(const CpuContext& cpu, const Tensor& logits, const Tensor& targets, int64_t first_column,
                            const Tensor& statistics) {
  const int64_t columns = logits.dim(1), values = statistics.dim(1);
  const float* in = logits.data<float>();
  const int32_t* target = targets.data<int32_t>();
  float* out = statistics.data<float>();
  ParallelBlocks(cpu, logits.dim(0), RowGrain(columns), [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      StatisticsRow(in + i * columns, columns, target[i] - first_column, values == 4, out + values * i);
    }
  });
}

void CrossEntropyCombine(const CpuContext& cpu, const Tensor& statistics, const Tensor& weights, const Tensor& loss,
                         const Tensor& log_sum_exp, const LabelSmoothing& smoothing, const Tensor& correct) {
  const int64_t parts = statistics.dim(0), rows = statistics.dim(1), values = statistics.dim(2);
  const float *in = statistics.data<float>(), *weight = WeightsOf(weights);
  float *loss_data = loss.data<float>(), *out = log_sum_exp.data<float>();
  float* is_correct = correct.defined() ? correct.data<float>() : nullptr;
  ParallelBlocks(cpu, rows, kGrain / 8, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float maximum = -kInfinity;
      for (int64_t part = 0; part < parts; ++part) {
        maximum = std::max(maximum, in[(part * rows + i) * values]);
      }
      const float shift = Finite(maximum);
      float sum = 0, target_logit = 0, logits = 0;
      for (int64_t part = 0; part < parts; ++part) {
        const float* s = in + (part * rows + i) * values;
        sum += s[1] * Exp(s[0] - shift);
        target_logit += s[2];
        if (values == 4) logits += s[3];
      }
      out[i] = shift + std::log(sum);
      loss_data[i] = out[i] - target_logit;
      if (values == 4) {
        const float each = smoothing.each(), all = static_cast<float>(smoothing.vocabulary) * out[i] - logits;
        loss_data[i] = (1.0f - smoothing.share - each) * loss_data[i] + each * all;
      }
      if (weight != nullptr) loss_data[i] = weight[i] == 0 ? 0.0f : weight[i] * loss_data[i];
      if (is_correct == nullptr) continue;
      is_correct[i] = target_logit == maximum && (weight == nullptr || weight[i] > 0) ? 1.0f : 0.0f;
    }
  });
}

void CrossEntropyBackward(const CpuContext& cpu, const Tensor& logits, const Tensor& targets, const Tensor& weights,
                          const Tensor& log_sum_exp, int64_t first_column, float scale, const Tensor& d_logits,
                          const LabelSmoothing& smoothing) {
  const float share = smoothing.share, each = smoothing.each();
  const int64_t columns = logits.dim(1);
  const float *in = logits.data<float>(), *sums = log_sum_exp.data<float>(), *weight = WeightsOf(weights);
  const int32_t* target = targets.data<int32_t>();
  WithType(d_logits.dtype(), [&](auto type) {
    using T = decltype(type);
    T* out = d_logits.data<T>();
    ParallelBlocks(cpu, logits.dim(0), RowGrain(columns), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float row_scale = weight == nullptr ? scale : scale * weight[i];
        if (row_scale == 0) {
          for (int64_t j = 0; j < columns; ++j) Store(out[i * columns + j], 0.0f);
        } else {
          BackwardRow(in + i * columns, columns, target[i] - first_column, sums[i], row_scale, share, each,
                      out + i * columns);
        }
      }
    });
  });
}

}  // namespace trefoil::cpu
