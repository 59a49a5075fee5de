#include "runtime/kernels/cuda/vector.h"

namespace trefoil::cuda {
namespace {

constexpr int W = kFullWidth<float>;

struct TanhOf {
  __device__ float operator()(float x) const { return tanhf(x); }
};
struct SigmoidOf {
  __device__ float operator()(float x) const { return Sigmoid(x); }
};
struct TanhBackwardOf {
  __device__ float operator()(float dh, float gate) const { return dh * (1.0f - gate * gate); }
};

// A thread takes a pack of all elements.
template <typename A, typename T>
__global__ void TanhKernel(float* gates, int64_t n, T* h) {
  const int64_t i = (blockIdx.x * int64_t{blockDim.x} + threadIdx.x) * A::kWidth;
  if (i >= n) return;
  const Pack<A::kWidth> activated = Apply<A::kWidth>(TanhOf(), Load<A>(gates + i));
  Store<A>(gates + i, activated);
  Store<A>(h + i, activated);
}

// A block takes a row.
template <typename A, typename T>
__global__ void __launch_bounds__(kMaxRowThreads)
    LstmKernel(float* gates, const float* c_before, int columns, T* h, float* c) {
  constexpr int kWidth = A::kWidth;
  const int64_t at = int64_t{blockIdx.x} * columns;
  float* row = gates + 4 * at;
  const int step = static_cast<int>(blockDim.x) * kWidth;
  for (int j = static_cast<int>(threadIdx.x) * kWidth; j < columns; j += step) {
    const Pack<kWidth> i = Apply<kWidth>(SigmoidOf(), Load<A>(row + j));
    const Pack<kWidth> f = Apply<kWidth>(SigmoidOf(), Load<A>(row + columns + j));
    const Pack<kWidth> g = Apply<kWidth>(TanhOf(), Load<A>(row + 2 * columns + j));
    const Pack<kWidth> o = Apply<kWidth>(SigmoidOf(), Load<A>(row + 3 * columns + j));
    Pack<kWidth> cell = Load<A>(c_before + at + j), out;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      cell.v[k] = f.v[k] * cell.v[k] + i.v[k] * g.v[k];
      out.v[k] = o.v[k] * tanhf(cell.v[k]);
    }
    Store<A>(row + j, i);
    Store<A>(row + columns + j, f);
    Store<A>(row + 2 * columns + j, g);
    Store<A>(row + 3 * columns + j, o);
    Store<A>(c + at + j, cell);
    Store<A>(h + at + j, out);
  }
}

// A block takes a row. dc: may be null.
template <typename A>
__global__ void __launch_bounds__(kMaxRowThreads)
    LstmBackwardKernel(const float* dh, const float* dc, const float* gates, const float* c_before, const float* c,
                       int columns, float* d_gates, float* d_c_before) {
  constexpr int kWidth = A::kWidth;
  const int64_t at = int64_t{blockIdx.x} * columns;
  const float* row = gates + 4 * at;
  float* d_row = d_gates + 4 * at;
  const int step = static_cast<int>(blockDim.x) * kWidth;
  for (int j = static_cast<int>(threadIdx.x) * kWidth; j < columns; j += step) {
    Pack<kWidth> i = Load<A>(row + j), f = Load<A>(row + columns + j), g = Load<A>(row + 2 * columns + j),
                 o = Load<A>(row + 3 * columns + j), d_cell = {};
    if (dc != nullptr) d_cell = Load<A>(dc + at + j);
    const Pack<kWidth> d = Load<A>(dh + at + j), cell = Load<A>(c + at + j), before = Load<A>(c_before + at + j);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const float t = tanhf(cell.v[k]), input = i.v[k];
      d_cell.v[k] += d.v[k] * o.v[k] * (1.0f - t * t);
      o.v[k] = d.v[k] * t * o.v[k] * (1.0f - o.v[k]);
      i.v[k] = d_cell.v[k] * g.v[k] * input * (1.0f - input);
      g.v[k] = d_cell.v[k] * input * (1.0f - g.v[k] * g.v[k]);
      const float forget = f.v[k];
      f.v[k] = d_cell.v[k] * before.v[k] * forget * (1.0f - forget);
      d_cell.v[k] *= forget;
    }
    Store<A>(d_row + j, i);
    Store<A>(d_row + columns + j, f);
    Store<A>(d_row + 2 * columns + j, g);
    Store<A>(d_row + 3 * columns + j, o);
    Store<A>(d_c_before + at + j, d_cell);
  }
}

}  // namespace

void RecurrentCell(const CudaContext& cuda, Cell cell, const Tensor& gates, const Tensor& c_before, const Tensor& h,
                   const Tensor& c) {
  const int64_t rows = h.dim(0), columns = h.dim(1), n = h.elements();
  if (n == 0) return;
  float* activated = gates.data<float>();
  WithType(h.dtype(), [&](auto type) {
    using T = decltype(type);
    T* out = h.data<T>();
    if (cell == Cell::kTanh) {
      WithAccess<W>(n, Aligned<W>(activated) && Aligned<W>(out), [&](auto access) {
        using A = decltype(access);
        Launch(cuda, TanhKernel<A, T>, GridSize(Blocks(n, 256 * A::kWidth)), 256, 0, activated, n, out);
      });
      return;
    }
    const float* before = c_before.data<float>();
    float* cells = c.data<float>();
    WithAccess<W>(columns, Aligned<W>(activated, before, cells) && Aligned<W>(out), [&](auto access) {
      using A = decltype(access);
      Launch(cuda, LstmKernel<A, T>, GridSize(rows), RowThreads(columns, A::kWidth), 0, activated, before,
             RowIndex(columns), out, cells);
    });
  });
}

void RecurrentCellBackward(const CudaContext& cuda, Cell cell, const Tensor& dh, const Tensor& dc, const Tensor& gates,
                           const Tensor& c_before, const Tensor& c, const Tensor& d_gates, const Tensor& d_c_before) {
  const int64_t rows = dh.dim(0), columns = dh.dim(1);
  if (dh.elements() == 0) return;
  const float *d = dh.data<float>(), *activated = gates.data<float>();
  float* out = d_gates.data<float>();
  if (cell == Cell::kTanh) return Map(cuda, dh.elements(), TanhBackwardOf(), out, d, activated);
  const float *d_cells = dc.defined() ? dc.data<float>() : nullptr, *before = c_before.data<float>();
  const float* cells = c.data<float>();
  float* d_before = d_c_before.data<float>();
  WithAccess<W>(columns, Aligned<W>(d, d_cells, activated, before, cells, out, d_before), [&](auto access) {
    using A = decltype(access);
    Launch(cuda, LstmBackwardKernel<A>, GridSize(rows), RowThreads(columns, A::kWidth), 0, d, d_cells, activated,
           before, cells, RowIndex(columns), out, d_before);
  });
}

}  // namespace trefoil::cuda
