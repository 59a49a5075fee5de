#include "runtime/kernels/cuda/vector.h"
#include "runtime/kernels/normal.h"

namespace trefoil::cuda {
namespace {

// Each function has a Value, and a Slope that comes multiplied with a factor.

struct GeluOf {
  // 0.5 (1 + tanh u) = sigmoid(2 u), so gelu(x) = x sigmoid(x (kA + kB x^2)).
  static constexpr float kA = 1.5957691216057308f;  // 2 sqrt(2/pi)
  static constexpr float kB = kA * 0.044715f;
  __device__ static float Value(float x) { return x * Sigmoid(x * (kA + kB * x * x)); }
  __device__ static float Slope(float factor, float x) {
    const float s = Sigmoid(x * (kA + kB * x * x));
    return factor * (s + x * (s * (1.0f - s)) * (kA + 3.0f * kB * x * x));
  }
};

struct GeluErfOf {
  __device__ static float Exponential(float x) { return expf(-0.5f * x * x); }
  __device__ static float Phi(float x, float exponential) {
    return NormalDistribution(x, exponential, __fdividef(1.0f, 1.0f + kNormalTail * fabsf(x)));
  }
  __device__ static float Value(float x) { return x * Phi(x, Exponential(x)); }
  __device__ static float Slope(float factor, float x) {
    const float e = Exponential(x);
    return factor * (Phi(x, e) + x * (e * kNormalDensity));
  }
};

struct ReluOf {
  __device__ static float Value(float x) { return x < 0.0f ? 0.0f : x; }
  __device__ static float Slope(float factor, float x) { return x <= 0.0f ? 0.0f : factor; }
};

struct SiluOf {
  __device__ static float Value(float x) { return x * Sigmoid(x); }
  __device__ static float Slope(float factor, float x) {
    const float s = Sigmoid(x);
    return factor * s * (1.0f + x * (1.0f - s));
  }
};

struct TanhOf {
  __device__ static float Value(float x) { return tanhf(x); }
  __device__ static float Slope(float factor, float x) {
    const float y = tanhf(x);
    return factor * (1.0f - y * y);
  }
};

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

template <typename F>
struct ValueOf {
  __device__ float operator()(float x) const { return F::Value(x); }
};
template <typename F>
struct SlopeOf {
  __device__ float operator()(float dy, float x) const { return F::Slope(dy, x); }
};

// A block takes a row: gate in columns [0, F), up in [F, 2F).
template <typename A, typename F, typename T>
__global__ void __launch_bounds__(kMaxRowThreads) GatedKernel(const T* gate_up, int columns, T* y) {
  constexpr int W = A::kWidth;
  const T* gate = gate_up + 2 * int64_t{blockIdx.x} * columns;
  T* out = y + int64_t{blockIdx.x} * columns;
  const int step = static_cast<int>(blockDim.x) * W;
#pragma unroll 2
  for (int j = static_cast<int>(threadIdx.x) * W; j < columns; j += step) {
    const Pack<W> g = Load<A>(gate + j), u = Load<A>(gate + columns + j);
    Pack<W> product;
#pragma unroll
    for (int k = 0; k < W; ++k) product.v[k] = F::Value(g.v[k]) * u.v[k];
    Store<A>(out + j, product);
  }
}

template <typename A, typename F, typename T>
__global__ void __launch_bounds__(kMaxRowThreads)
    GatedBackwardKernel(const T* dy, const T* gate_up, int columns, T* d_gate_up) {
  constexpr int W = A::kWidth;
  const int64_t row = blockIdx.x;
  const T *d_row = dy + row * columns, *gate = gate_up + 2 * row * columns;
  T* d_gate = d_gate_up + 2 * row * columns;
  const int step = static_cast<int>(blockDim.x) * W;
  for (int j = static_cast<int>(threadIdx.x) * W; j < columns; j += step) {
    const Pack<W> d = Load<A>(d_row + j), g = Load<A>(gate + j), u = Load<A>(gate + columns + j);
    Pack<W> dg, du;
#pragma unroll
    for (int k = 0; k < W; ++k) {
      dg.v[k] = F::Slope(d.v[k] * u.v[k], g.v[k]);
      du.v[k] = d.v[k] * F::Value(g.v[k]);
    }
    Store<A>(d_gate + j, dg);
    Store<A>(d_gate + columns + j, du);
  }
}

}  // namespace

void Activate(const CudaContext& cuda, Activation activation, const Tensor& x, const Tensor& y) {
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    WithFunction(activation, [&](auto function) {
      Map(cuda, x.elements(), ValueOf<decltype(function)>(), y.data<T>(), x.data<T>());
    });
  });
}

void ActivateBackward(const CudaContext& cuda, Activation activation, const Tensor& dy, const Tensor& x,
                      const Tensor& dx) {
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    WithFunction(activation, [&](auto function) {
      Map(cuda, x.elements(), SlopeOf<decltype(function)>(), dx.data<T>(), dy.data<T>(), x.data<T>());
    });
  });
}

void GatedActivate(const CudaContext& cuda, Activation activation, const Tensor& gate_up, const Tensor& y) {
  const int64_t rows = y.dim(0), columns = y.dim(1);
  if (y.elements() == 0) return;
  WithType(y.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* in = gate_up.data<T>();
    T* out = y.data<T>();
    WithFunction(activation, [&](auto function) {
      WithAccess<kFullWidth<T>>(columns, Aligned<kFullWidth<T>>(in, out), [&](auto access) {
        using A = decltype(access);
        Launch(cuda, GatedKernel<A, decltype(function), T>, GridSize(rows), RowThreads(columns, A::kWidth), 0, in,
               RowIndex(columns), out);
      });
    });
  });
}

void GatedActivateBackward(const CudaContext& cuda, Activation activation, const Tensor& dy, const Tensor& gate_up,
                           const Tensor& d_gate_up) {
  const int64_t rows = dy.dim(0), columns = dy.dim(1);
  if (dy.elements() == 0) return;
  WithType(dy.dtype(), [&](auto type) {
    using T = decltype(type);
    const T *d = dy.data<T>(), *in = gate_up.data<T>();
    T* out = d_gate_up.data<T>();
    WithFunction(activation, [&](auto function) {
      WithAccess<kFullWidth<T>>(columns, Aligned<kFullWidth<T>>(d, in, out), [&](auto access) {
        using A = decltype(access);
        Launch(cuda, GatedBackwardKernel<A, decltype(function), T>, GridSize(rows), RowThreads(columns, A::kWidth), 0,
               d, in, RowIndex(columns), out);
      });
    });
  });
}

}  // namespace trefoil::cuda
