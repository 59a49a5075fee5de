#include <cmath>

#include "runtime/kernels/cpu/vector.h"

namespace trefoil::cpu {
namespace {

template <typename T>
void LayerNormRow(const T* x, const T* weight, const T* bias, float epsilon, int64_t columns, T* y, float* mean,
                  float* rstd) {
  const float sum = SumLanes<float>(columns, [=](int64_t j) { return static_cast<float>(x[j]); });
  const float center = sum / static_cast<float>(columns);
  const float squares = SumLanes<float>(columns, [=](int64_t j) {
    const float d = static_cast<float>(x[j]) - center;
    return d * d;
  });
  const float scale = 1.0f / std::sqrt(squares / static_cast<float>(columns) + epsilon);
#pragma omp simd
  for (int64_t j = 0; j < columns; ++j) {
    const float normal = (static_cast<float>(x[j]) - center) * scale;
    Store(y[j], normal * static_cast<float>(weight[j]) + static_cast<float>(bias[j]));
  }
  *mean = center;
  *rstd = scale;
}

template <typename T>
void RmsNormRow(const T* x, const T* weight, float epsilon, int64_t columns, T* y, float* rstd) {
  const float squares =
      SumLanes<float>(columns, [=](int64_t j) { return static_cast<float>(x[j]) * static_cast<float>(x[j]); });
  const float scale = 1.0f / std::sqrt(squares / static_cast<float>(columns) + epsilon);
#pragma omp simd
  for (int64_t j = 0; j < columns; ++j) {
    Store(y[j], static_cast<float>(x[j]) * scale * static_cast<float>(weight[j]));
  }
  *rstd = scale;
}

// One row of the backward: with n = (x - mean) * rstd and g = dy * weight,
// dx = d_residual + rstd * (g - [mean of g] - n * mean of (g * n)); the bracket is layer norm's alone.
template <bool kLayerNorm, typename T>
void BackwardRow(const T* dy, const T* x, const T* weight, float mean, float rstd, const T* d_residual, int64_t columns,
                 T* dx, float* d_weight, float* d_bias) {
  const float sum_g = !kLayerNorm ? 0.0f : SumLanes<float>(columns, [=](int64_t j) {
    d_bias[j] += static_cast<float>(dy[j]);
    return static_cast<float>(dy[j]) * static_cast<float>(weight[j]);
  });
  const float sum_gn = SumLanes<float>(columns, [=](int64_t j) {
    const float dn = static_cast<float>(dy[j]) * ((static_cast<float>(x[j]) - mean) * rstd);
    d_weight[j] += dn;
    return dn * static_cast<float>(weight[j]);
  });
  const float mean_g = sum_g / static_cast<float>(columns), mean_gn = sum_gn / static_cast<float>(columns);
  if (d_residual == nullptr) {
#pragma omp simd
    for (int64_t j = 0; j < columns; ++j) {
      const float n = (static_cast<float>(x[j]) - mean) * rstd;
      const float g = static_cast<float>(dy[j]) * static_cast<float>(weight[j]);
      Store(dx[j], rstd * (g - mean_g - n * mean_gn));
    }
  } else {
#pragma omp simd
    for (int64_t j = 0; j < columns; ++j) {
      const float n = (static_cast<float>(x[j]) - mean) * rstd;
      const float g = static_cast<float>(dy[j]) * static_cast<float>(weight[j]);
      Store(dx[j], static_cast<float>(d_residual[j]) + rstd * (g - mean_g - n * mean_gn));
    }
  }
}

// Rows that are normed, each by itself: `heads` in each row of a matrix.
template <typename T>
struct NormedRows {
  NormedRows(const HeadColumns& x, int64_t heads, int64_t columns)
      : data(x.rows.data<T>() + x.first), stride(x.rows.dim(1)), heads(heads), columns(columns) {}
  T* operator[](int64_t i) const { return data + i / heads * stride + i % heads * columns; }
  T* data;
  int64_t stride, heads, columns;
};

// Both backwards. mean, d_bias: layer norm's alone.
template <bool kLayerNorm>
void Backward(const CpuContext& cpu, const HeadColumns& dy, const HeadColumns& x, int64_t heads, const Tensor& weight,
              const float* mean, const float* rstd, const Tensor& d_residual, const HeadColumns& dx, float* d_weight,
              float* d_bias) {
  const int64_t rows = x.rows.dim(0) * heads, columns = weight.dim(0);
  if (rows == 0 || columns == 0) return;
  const int64_t block = SumBlockRows(rows), parts = Blocks(rows, block);
  const int64_t stride = kLayerNorm ? 2 * columns : columns;
  const Workspace partial(cpu, parts * stride);
  if (cpu.dry) return;
  WithType(weight.dtype(), [&](auto type) {
    using T = decltype(type);
    const NormedRows<T> dy_rows(dy, heads, columns), x_rows(x, heads, columns), dx_rows(dx, heads, columns);
    const T* weight_data = weight.data<T>();
    const T* residual = d_residual.defined() ? d_residual.data<T>() : nullptr;
    ParallelFor(cpu.threads, parts, [=, sums = partial.data()](int64_t part) {
      float* dw = sums + part * stride;
      std::fill_n(dw, stride, 0.0f);
      for (int64_t i = part * block; i < std::min(rows, (part + 1) * block); ++i) {
        BackwardRow<kLayerNorm>(dy_rows[i], x_rows[i], weight_data, kLayerNorm ? mean[i] : 0.0f, rstd[i],
                                residual == nullptr ? nullptr : residual + i * columns, columns, dx_rows[i], dw,
                                kLayerNorm ? dw + columns : nullptr);
      }
    });
  });
  AddPartials(cpu, partial.data(), parts, stride, columns, d_weight);
  if (kLayerNorm) AddPartials(cpu, partial.data() + columns, parts, stride, columns, d_bias);
}

}  // namespace

void LayerNorm(const CpuContext& cpu, const Tensor& x, const Tensor& weight, const Tensor& bias, float epsilon,
               const Tensor& y, const Tensor& mean, const Tensor& rstd) {
  const int64_t columns = x.dim(1);
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    const T *x_data = x.data<T>(), *weight_data = weight.data<T>(), *bias_data = bias.data<T>();
    T* y_data = y.data<T>();
    float *mean_data = mean.data<float>(), *rstd_data = rstd.data<float>();
    ParallelBlocks(cpu, x.dim(0), RowGrain(columns), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        LayerNormRow(x_data + i * columns, weight_data, bias_data, epsilon, columns, y_data + i * columns,
                     mean_data + i, rstd_data + i);
      }
    });
  });
}

void LayerNormBackward(const CpuContext& cpu, const Tensor& dy, const Tensor& x, const Tensor& weight,
                       const Tensor& mean, const Tensor& rstd, const Tensor& d_residual, const Tensor& dx,
                       const Tensor& d_weight, const Tensor& d_bias) {
  Backward<true>(cpu, {dy, 0}, {x, 0}, 1, weight, mean.data<float>(), rstd.data<float>(), d_residual, {dx, 0},
                 d_weight.data<float>(), d_bias.data<float>());
}

void RmsNorm(const CpuContext& cpu, const HeadColumns& x, int64_t heads, const Tensor& weight, float epsilon,
             const HeadColumns& y, const Tensor& rstd) {
  const int64_t columns = weight.dim(0);
  WithType(weight.dtype(), [&](auto type) {
    using T = decltype(type);
    const NormedRows<T> x_rows(x, heads, columns), y_rows(y, heads, columns);
    const T* weight_data = weight.data<T>();
    float* rstd_data = rstd.data<float>();
    ParallelBlocks(cpu, x.rows.dim(0) * heads, RowGrain(columns), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        RmsNormRow(x_rows[i], weight_data, epsilon, columns, y_rows[i], rstd_data + i);
      }
    });
  });
}

void RmsNormBackward(const CpuContext& cpu, const HeadColumns& dy, const HeadColumns& x, int64_t heads,
                     const Tensor& weight, const Tensor& rstd, const Tensor& d_residual, const HeadColumns& dx,
                     const Tensor& d_weight) {
  Backward<false>(cpu, dy, x, heads, weight, nullptr, rstd.data<float>(), d_residual, dx, d_weight.data<float>(),
                  nullptr);
}

}  // namespace trefoil::cpu
