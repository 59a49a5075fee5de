#include <cmath>

#include "runtime/kernels/cpu/vector.h"
#include "runtime/kernels/normal.h"

namespace trefoil::cpu {
namespace {

// Each function has a Value, and a Slope that comes multiplied with a factor.

struct GeluOf {
  // 0.5 (1 + tanh u) = sigmoid(2 u), so gelu(x) = x sigmoid(x (kA + kB x^2)).
  static constexpr float kA = 1.5957691216057308f;  // 2 sqrt(2/pi)
  static constexpr float kB = kA * 0.044715f;
  static float Value(float x) { return x * Sigmoid(x * (kA + kB * x * x)); }
  static float Slope(float factor, float x) {
    const float s = Sigmoid(x * (kA + kB * x * x));
    return factor * (s + x * (s * (1.0f - s)) * (kA + 3.0f * kB * x * x));
  }
};

struct GeluErfOf {
  static float Exponential(float x) { return Exp(-0.5f * x * x); }
  static float Phi(float x, float exponential) {
    return NormalDistribution(x, exponential, 1.0f / (1.0f + kNormalTail * std::fabs(x)));
  }
  static float Value(float x) { return x * Phi(x, Exponential(x)); }
  static float Slope(float factor, float x) {
    const float e = Exponential(x);
    return factor * (Phi(x, e) + x * (e * kNormalDensity));
  }
};

struct ReluOf {
  static float Value(float x) { return x < 0.0f ? 0.0f : x; }
  static float Slope(float factor, float x) { return x <= 0.0f ? 0.0f : factor; }
};

struct SiluOf {
  static float Value(float x) { return x * Sigmoid(x); }
  // The compiler cuts loops at the limits of Exp, and without the barrier fuses this sum in some of its copies only.
  static float Slope(float factor, float x) {
    const float s = Sigmoid(x);
    return factor * s * (1.0f + __builtin_assoc_barrier(x * (1.0f - s)));
  }
};

struct TanhOf {
  static float Value(float x) { return Tanh(x); }
  static float Slope(float factor, float x) {
    const float y = Tanh(x);
    return factor * (1.0f - y * y);
  }
};

// factor * F::Value(x). SiLU's come in an order of their own, that of all results since SwiGLU was an op.
template <typename F>
float Times(float factor, float x) {
  return factor * F::Value(x);
}
template <>
inline float Times<SiluOf>(float factor, float x) {
  return factor * x * Sigmoid(x);
}

// Calls f(F()) with the functions of `activation`.
template <typename F>
void WithFunction(Activation activation, const F& f) {
  switch (activation) {
    case Activation::kGelu:
      return f(GeluOf());
    case Activation::kGeluErf:
      return f(GeluErfOf());
    case Activation::kRelu:
      return f(ReluOf());
    case Activation::kSilu:
      return f(SiluOf());
    case Activation::kTanh:
      return f(TanhOf());
  }
}

template <typename F, typename T>
void ValueRange(const T* x, int64_t n, T* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) Store(y[i], F::Value(static_cast<float>(x[i])));
}

template <typename F, typename T>
void SlopeRange(const T* dy, const T* x, int64_t n, T* dx) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) Store(dx[i], F::Slope(static_cast<float>(dy[i]), static_cast<float>(x[i])));
}

template <typename F, typename T>
void GatedRow(const T* gate, const T* up, int64_t n, T* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) Store(y[i], F::Value(static_cast<float>(gate[i])) * static_cast<float>(up[i]));
}

template <typename F, typename T>
void GatedBackwardRow(const T* dy, const T* gate, const T* up, int64_t n, T* d_gate, T* d_up) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float d = static_cast<float>(dy[i]), g = static_cast<float>(gate[i]), u = static_cast<float>(up[i]);
    Store(d_gate[i], F::Slope(d * u, g));
    Store(d_up[i], Times<F>(d, g));
  }
}

}  // namespace

void Activate(const CpuContext& cpu, Activation activation, const Tensor& x, const Tensor& y) {
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    WithFunction(activation, [&](auto function) {
      ParallelBlocks(cpu, x.elements(), kGrain, [=](int64_t begin, int64_t end) {
        ValueRange<decltype(function)>(in + begin, end - begin, out + begin);
      });
    });
  });
}

void ActivateBackward(const CpuContext& cpu, Activation activation, const Tensor& dy, const Tensor& x,
                      const Tensor& dx) {
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    const T *d = dy.data<T>(), *in = x.data<T>();
    T* out = dx.data<T>();
    WithFunction(activation, [&](auto function) {
      ParallelBlocks(cpu, x.elements(), kGrain, [=](int64_t begin, int64_t end) {
        SlopeRange<decltype(function)>(d + begin, in + begin, end - begin, out + begin);
      });
    });
  });
}

void GatedActivate(const CpuContext& cpu, Activation activation, const Tensor& gate_up, const Tensor& y) {
  const int64_t columns = y.dim(1);
  WithType(y.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* in = gate_up.data<T>();
    T* out = y.data<T>();
    WithFunction(activation, [&](auto function) {
      ParallelBlocks(cpu, y.dim(0), RowGrain(columns), [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const T* gate = in + 2 * i * columns;
          GatedRow<decltype(function)>(gate, gate + columns, columns, out + i * columns);
        }
      });
    });
  });
}

void GatedActivateBackward(const CpuContext& cpu, Activation activation, const Tensor& dy, const Tensor& gate_up,
                           const Tensor& d_gate_up) {
  const int64_t columns = dy.dim(1);
  WithType(dy.dtype(), [&](auto type) {
    using T = decltype(type);
    const T *d = dy.data<T>(), *in = gate_up.data<T>();
    T* out = d_gate_up.data<T>();
    WithFunction(activation, [&](auto function) {
      ParallelBlocks(cpu, dy.dim(0), RowGrain(columns), [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t gate = 2 * i * columns, up = gate + columns;
          GatedBackwardRow<decltype(function)>(d + i * columns, in + gate, in + up, columns, out + gate, out + up);
        }
      });
    });
  });
}

}  // namespace trefoil::cpu
