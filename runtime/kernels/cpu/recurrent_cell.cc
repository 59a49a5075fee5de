#include "runtime/kernels/cpu/vector.h"

namespace trefoil::cpu {
namespace {

template <typename T>
void TanhRange(float* gates, int64_t n, T* h) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    gates[i] = Tanh(gates[i]);
    Store(h[i], gates[i]);
  }
}

void TanhBackwardRange(const float* dh, const float* gates, int64_t n, float* d_gates) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) d_gates[i] = dh[i] * (1.0f - gates[i] * gates[i]);
}

template <typename T>
void LstmRow(float* gates, const float* c_before, int64_t n, T* h, float* c) {
  float *input = gates, *forget = gates + n, *candidate = gates + 2 * n, *output = gates + 3 * n;
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) {
    const float i = Sigmoid(input[j]), f = Sigmoid(forget[j]), g = Tanh(candidate[j]), o = Sigmoid(output[j]);
    const float cell = f * c_before[j] + i * g;
    input[j] = i;
    forget[j] = f;
    candidate[j] = g;
    output[j] = o;
    c[j] = cell;
    Store(h[j], o * Tanh(cell));
  }
}

// dc: may be null.
void LstmBackwardRow(const float* dh, const float* dc, const float* gates, const float* c_before, const float* c,
                     int64_t n, float* d_gates, float* d_c_before) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) {
    const float i = gates[j], f = gates[n + j], g = gates[2 * n + j], o = gates[3 * n + j], t = Tanh(c[j]);
    const float d_cell = (dc == nullptr ? 0.0f : dc[j]) + dh[j] * o * (1.0f - t * t), before = c_before[j];
    d_gates[3 * n + j] = dh[j] * t * o * (1.0f - o);
    d_gates[j] = d_cell * g * i * (1.0f - i);
    d_gates[n + j] = d_cell * before * f * (1.0f - f);
    d_gates[2 * n + j] = d_cell * i * (1.0f - g * g);
    d_c_before[j] = d_cell * f;
  }
}

}  // namespace

void RecurrentCell(const CpuContext& cpu, Cell cell, const Tensor& gates, const Tensor& c_before, const Tensor& h,
                   const Tensor& c) {
  const int64_t columns = h.dim(1);
  float* activated = gates.data<float>();
  WithType(h.dtype(), [&](auto type) {
    auto* out = h.data<decltype(type)>();
    if (cell == Cell::kTanh) {
      ParallelBlocks(cpu, h.elements(), kGrain, [=](int64_t begin, int64_t end) {
        TanhRange(activated + begin, end - begin, out + begin);
      });
      return;
    }
    const float* before = c_before.data<float>();
    float* cells = c.data<float>();
    ParallelBlocks(cpu, h.dim(0), RowGrain(4 * columns), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t at = i * columns;
        LstmRow(activated + 4 * at, before + at, columns, out + at, cells + at);
      }
    });
  });
}

void RecurrentCellBackward(const CpuContext& cpu, Cell cell, const Tensor& dh, const Tensor& dc, const Tensor& gates,
                           const Tensor& c_before, const Tensor& c, const Tensor& d_gates, const Tensor& d_c_before) {
  const int64_t columns = dh.dim(1);
  const float *d = dh.data<float>(), *activated = gates.data<float>();
  float* out = d_gates.data<float>();
  if (cell == Cell::kTanh) {
    ParallelBlocks(cpu, dh.elements(), kGrain, [=](int64_t begin, int64_t end) {
      TanhBackwardRange(d + begin, activated + begin, end - begin, out + begin);
    });
    return;
  }
  const float *d_cells = dc.defined() ? dc.data<float>() : nullptr, *before = c_before.data<float>();
  const float* cells = c.data<float>();
  float* d_before = d_c_before.data<float>();
  ParallelBlocks(cpu, dh.dim(0), RowGrain(4 * columns), [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = i * columns;
      LstmBackwardRow(d + at, d_cells == nullptr ? nullptr : d_cells + at, activated + 4 * at, before + at, cells + at,
                      columns, out + 4 * at, d_before + at);
    }
  });
}

}  // namespace trefoil::cpu
