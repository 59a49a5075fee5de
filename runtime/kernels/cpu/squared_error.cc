#include "runtime/kernels/cpu/vector.h"

namespace trefoil::cpu {
namespace {

float WeightOf(const float* weights, int64_t row) { return weights == nullptr ? 1.0f : weights[row]; }

template <typename T>
float MeanSquare(const T* prediction, const float* target, int64_t columns) {
  const float sum = SumLanes<float>(columns, [=](int64_t j) {
    const float difference = static_cast<float>(prediction[j]) - target[j];
    return difference * difference;
  });
  return sum / static_cast<float>(columns);
}

template <typename T>
void BackwardRow(const T* prediction, const float* target, int64_t columns, float factor, T* d_prediction) {
#pragma omp simd
  for (int64_t j = 0; j < columns; ++j) {
    Store(d_prediction[j], factor * (static_cast<float>(prediction[j]) - target[j]));
  }
}

}  // namespace

void SquaredError(const CpuContext& cpu, const Tensor& prediction, const Tensor& target, const Tensor& weights,
                  const Tensor& loss) {
  const int64_t columns = prediction.dim(1);
  const float* wanted = target.data<float>();
  const float* weight = weights.defined() ? weights.data<float>() : nullptr;
  float* out = loss.data<float>();
  WithType(prediction.dtype(), [&](auto type) {
    const auto* in = prediction.data<decltype(type)>();
    ParallelBlocks(cpu, prediction.dim(0), RowGrain(columns), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float w = WeightOf(weight, i);
        out[i] = w == 0 ? 0.0f : w * MeanSquare(in + i * columns, wanted + i * columns, columns);
      }
    });
  });
}

void SquaredErrorBackward(const CpuContext& cpu, const Tensor& prediction, const Tensor& target, const Tensor& weights,
                          float scale, const Tensor& d_prediction) {
  const int64_t columns = prediction.dim(1);
  const float* wanted = target.data<float>();
  const float* weight = weights.defined() ? weights.data<float>() : nullptr;
  const float each = 2.0f / static_cast<float>(columns);
  WithType(prediction.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* in = prediction.data<T>();
    T* out = d_prediction.data<T>();
    ParallelBlocks(cpu, prediction.dim(0), RowGrain(columns), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float factor = scale * WeightOf(weight, i) * each;
        if (factor == 0) {
          std::fill_n(out + i * columns, columns, T(0.0f));
        } else {
          BackwardRow(in + i * columns, wanted + i * columns, columns, factor, out + i * columns);
        }
      }
    });
  });
}

}  // namespace trefoil::cpu
