#include "runtime/kernels/cpu/vector.h"

namespace trefoil::cpu {
namespace {

// 0.5 (1 + tanh u) = sigmoid(2 u), so gelu(x) = x sigmoid(x (kA + kB x^2)).
constexpr float kA = 1.5957691216057308f;  // 2 sqrt(2/pi)
constexpr float kB = kA * 0.044715f;

template <typename T>
void GeluRange(const T* x, int64_t n, T* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float v = static_cast<float>(x[i]);
    Store(y[i], v * Sigmoid(v * (kA + kB * v * v)));
  }
}

template <typename T>
void GeluBackwardRange(const T* dy, const T* x, int64_t n, T* dx) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float v = static_cast<float>(x[i]);
    const float s = Sigmoid(v * (kA + kB * v * v));
    const float slope = s + v * (s * (1.0f - s)) * (kA + 3.0f * kB * v * v);
    Store(dx[i], static_cast<float>(dy[i]) * slope);
  }
}

template <typename T>
void SwiGluRow(const T* gate, const T* up, int64_t n, T* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = static_cast<float>(gate[i]);
    Store(y[i], g * Sigmoid(g) * static_cast<float>(up[i]));
  }
}

template <typename T>
void SwiGluBackwardRow(const T* dy, const T* gate, const T* up, int64_t n, T* d_gate, T* d_up) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float d = static_cast<float>(dy[i]), g = static_cast<float>(gate[i]), u = static_cast<float>(up[i]);
    const float s = Sigmoid(g);
    Store(d_gate[i], d * u * s * (1.0f + g * (1.0f - s)));
    Store(d_up[i], d * g * s);
  }
}

}  // namespace

void Gelu(const CpuContext& cpu, const Tensor& x, const Tensor& y) {
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    ParallelBlocks(cpu, x.elements(), kGrain,
                   [=](int64_t begin, int64_t end) { GeluRange(in + begin, end - begin, out + begin); });
  });
}

void GeluBackward(const CpuContext& cpu, const Tensor& dy, const Tensor& x, const Tensor& dx) {
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    const T *d = dy.data<T>(), *in = x.data<T>();
    T* out = dx.data<T>();
    ParallelBlocks(cpu, x.elements(), kGrain, [=](int64_t begin, int64_t end) {
      GeluBackwardRange(d + begin, in + begin, end - begin, out + begin);
    });
  });
}

void SwiGlu(const CpuContext& cpu, const Tensor& gate_up, const Tensor& y) {
  const int64_t columns = y.dim(1);
  WithType(y.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* in = gate_up.data<T>();
    T* out = y.data<T>();
    ParallelBlocks(cpu, y.dim(0), RowGrain(columns), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        SwiGluRow(in + 2 * i * columns, in + (2 * i + 1) * columns, columns, out + i * columns);
      }
    });
  });
}

void SwiGluBackward(const CpuContext& cpu, const Tensor& dy, const Tensor& gate_up, const Tensor& d_gate_up) {
  const int64_t columns = dy.dim(1);
  WithType(dy.dtype(), [&](auto type) {
    using T = decltype(type);
    const T *d = dy.data<T>(), *in = gate_up.data<T>();
    T* out = d_gate_up.data<T>();
    ParallelBlocks(cpu, dy.dim(0), RowGrain(columns), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t gate = 2 * i * columns, up = gate + columns;
        SwiGluBackwardRow(d + i * columns, in + gate, in + up, columns, out + gate, out + up);
      }
    });
  });
}

}  // namespace trefoil::cpu
