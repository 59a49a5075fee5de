#include "runtime/kernels/cuda/vector.h"

namespace trefoil::cuda {
namespace {

// The quick division is within 2 units in the last place, and 0 where the quotient would be below 2^-126.
__device__ inline float Sigmoid(float x) { return __fdividef(1.0f, 1.0f + expf(-x)); }

// 0.5 (1 + tanh u) = sigmoid(2 u), so gelu(x) = x sigmoid(x (kA + kB x^2)).
constexpr float kA = 1.5957691216057308f;  // 2 sqrt(2/pi)
constexpr float kB = kA * 0.044715f;

struct GeluOf {
  __device__ float operator()(float x) const { return x * Sigmoid(x * (kA + kB * x * x)); }
};

struct GeluBackwardOf {
  __device__ float operator()(float dy, float x) const {
    const float s = Sigmoid(x * (kA + kB * x * x));
    return dy * (s + x * (s * (1.0f - s)) * (kA + 3.0f * kB * x * x));
  }
};

// A block takes a row: gate in columns [0, F), up in [F, 2F).
template <typename A, typename T>
__global__ void __launch_bounds__(kMaxRowThreads) SwiGluKernel(const T* gate_up, int columns, T* y) {
  constexpr int W = A::kWidth;
  const T* gate = gate_up + 2 * int64_t{blockIdx.x} * columns;
  T* out = y + int64_t{blockIdx.x} * columns;
  const int step = static_cast<int>(blockDim.x) * W;
#pragma unroll 2
  for (int j = static_cast<int>(threadIdx.x) * W; j < columns; j += step) {
    const Pack<W> g = Load<A>(gate + j), u = Load<A>(gate + columns + j);
    Pack<W> product;
#pragma unroll
    for (int k = 0; k < W; ++k) product.v[k] = g.v[k] * Sigmoid(g.v[k]) * u.v[k];
    Store<A>(out + j, product);
  }
}

template <typename A, typename T>
__global__ void __launch_bounds__(kMaxRowThreads)
    SwiGluBackwardKernel(const T* dy, const T* gate_up, int columns, T* d_gate_up) {
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
      const float s = Sigmoid(g.v[k]);
      dg.v[k] = d.v[k] * u.v[k] * s * (1.0f + g.v[k] * (1.0f - s));
      du.v[k] = d.v[k] * g.v[k] * s;
    }
    Store<A>(d_gate + j, dg);
    Store<A>(d_gate + columns + j, du);
  }
}

}  // namespace

void Gelu(const CudaContext& cuda, const Tensor& x, const Tensor& y) {
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    Map(cuda, x.elements(), GeluOf(), y.data<T>(), x.data<T>());
  });
}

void GeluBackward(const CudaContext& cuda, const Tensor& dy, const Tensor& x, const Tensor& dx) {
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    Map(cuda, x.elements(), GeluBackwardOf(), dx.data<T>(), dy.data<T>(), x.data<T>());
  });
}

void SwiGlu(const CudaContext& cuda, const Tensor& gate_up, const Tensor& y) {
  const int64_t rows = y.dim(0), columns = y.dim(1);
  if (y.elements() == 0) return;
  WithType(y.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* in = gate_up.data<T>();
    T* out = y.data<T>();
    WithAccess<kFullWidth<T>>(columns, Aligned<kFullWidth<T>>(in, out), [&](auto access) {
      using A = decltype(access);
      Launch(cuda, SwiGluKernel<A, T>, GridSize(rows), RowThreads(columns, A::kWidth), 0, in, RowIndex(columns), out);
    });
  });
}

void SwiGluBackward(const CudaContext& cuda, const Tensor& dy, const Tensor& gate_up, const Tensor& d_gate_up) {
  const int64_t rows = dy.dim(0), columns = dy.dim(1);
  if (dy.elements() == 0) return;
  WithType(dy.dtype(), [&](auto type) {
    using T = decltype(type);
    const T *d = dy.data<T>(), *in = gate_up.data<T>();
    T* out = d_gate_up.data<T>();
    WithAccess<kFullWidth<T>>(columns, Aligned<kFullWidth<T>>(d, in, out), [&](auto access) {
      using A = decltype(access);
      Launch(cuda, SwiGluBackwardKernel<A, T>, GridSize(rows), RowThreads(columns, A::kWidth), 0, d, in,
             RowIndex(columns), out);
    });
  });
}

}  // namespace trefoil::cuda
