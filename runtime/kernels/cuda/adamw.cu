#include <cmath>

#include "runtime/kernels/cuda/table.h"
#include "runtime/kernels/cuda/vector.h"

namespace trefoil::cuda {
namespace {

// The step with its bias corrections: weight -= rate * (m * m_scale / (sqrt(v * v_scale) + epsilon)) + decay * weight.
struct Factors {
  float rate, beta1, beta2, epsilon, decay, gradient_scale, m_scale, v_scale;
};

template <typename A, bool kWorking, typename T>
__device__ inline void StepPack(float* weight, const float* gradient, float* m, float* v, const Factors& f,
                                T* working) {
  constexpr int W = A::kWidth;
  Pack<W> w = Load<A>(weight), m_new = Load<A>(m), v_new = Load<A>(v);
  const Pack<W> g = Load<A>(gradient);
#pragma unroll
  for (int k = 0; k < W; ++k) {
    const float scaled = g.v[k] * f.gradient_scale;
    m_new.v[k] = f.beta1 * m_new.v[k] + (1.0f - f.beta1) * scaled;
    v_new.v[k] = f.beta2 * v_new.v[k] + (1.0f - f.beta2) * (scaled * scaled);
    const float direction = m_new.v[k] * f.m_scale / (sqrtf(v_new.v[k] * f.v_scale) + f.epsilon);
    w.v[k] -= f.rate * direction + f.decay * w.v[k];
  }
  Store<A>(m, m_new);
  Store<A>(v, v_new);
  Store<A>(weight, w);
  if constexpr (kWorking) Store<A>(working, w);
}

// A part of the step as the kernel sees it.
struct Entry {
  float* weight;
  const float* gradient;
  float *m, *v;
  void* working;  // null: none
  int64_t n;
  float decay;
  bool whole;  // all of them start where packs may be read at once
  int first_block = 0;
};

constexpr int kThreads = 256;
constexpr int64_t kBlockElements = 4096;  // a multiple of every pack

template <typename A, typename T>
__device__ inline void StepOfBlock(const Entry& entry, const Factors& f, int64_t begin, int64_t end) {
  constexpr int W = A::kWidth;
  T* working = static_cast<T*>(entry.working);
  const auto step = [&]<typename Each>(Each, int64_t i) {
    if (working == nullptr) {
      StepPack<Each, false, T>(entry.weight + i, entry.gradient + i, entry.m + i, entry.v + i, f, nullptr);
    } else {
      StepPack<Each, true>(entry.weight + i, entry.gradient + i, entry.m + i, entry.v + i, f, working + i);
    }
  };
  int64_t i = begin + threadIdx.x * W;
  for (; i + W <= end; i += kThreads * W) step(A(), i);
  for (; i < end; ++i) step(OneByOne(), i);  // one thread's: n % W elements
}

// A block takes kBlockElements of one part. T: of the working copies.
template <typename T>
__global__ void __launch_bounds__(kThreads) AdamWKernel(const Table<Entry> table, Factors factors) {
  const Entry entry = EntryOfBlock(table);
  factors.decay = entry.decay;
  const int64_t begin = (blockIdx.x - entry.first_block) * kBlockElements, end = min(entry.n, begin + kBlockElements);
  if (entry.whole) {
    StepOfBlock<Access<kFullWidth<float>, true>, T>(entry, factors, begin, end);
  } else {
    StepOfBlock<OneByOne, T>(entry, factors, begin, end);
  }
}

template <typename T>
void StepOfParts(const CudaContext& cuda, std::span<const AdamWPart> parts, const AdamWStep& step) {
  constexpr int W = kFullWidth<float>;
  const double t = static_cast<double>(step.step);
  const Factors factors = {.rate = step.learning_rate,
                           .beta1 = step.beta1,
                           .beta2 = step.beta2,
                           .epsilon = step.epsilon,
                           .decay = 0,  // of each part
                           .gradient_scale = step.gradient_scale,
                           .m_scale = static_cast<float>(1 / (1 - std::pow(static_cast<double>(step.beta1), t))),
                           .v_scale = static_cast<float>(1 / (1 - std::pow(static_cast<double>(step.beta2), t)))};
  TableLauncher<Entry> tables([&](const Table<Entry>& table, int64_t blocks) {
    Launch(cuda, AdamWKernel<T>, GridSize(blocks), kThreads, 0, table, factors);
  });
  for (const AdamWPart& part : parts) {
    const int64_t n = part.weight.elements();
    float *weight = part.weight.data<float>(), *m = part.m.data<float>(), *v = part.v.data<float>();
    const float* gradient = part.gradient.data<float>();
    T* working = part.working.defined() ? part.working.data<T>() : nullptr;
    tables.Add({.weight = weight,
                .gradient = gradient,
                .m = m,
                .v = v,
                .working = working,
                .n = n,
                .decay = step.learning_rate * part.weight_decay,
                .whole = Aligned<W>(weight, gradient, m, v, working)},
               Blocks(n, kBlockElements));
  }
  tables.Finish();
}

}  // namespace

void AdamW(const CudaContext& cuda, std::span<const AdamWPart> parts, const AdamWStep& step) {
  DType working = DType::kFloat32;
  for (const AdamWPart& part : parts) working = part.working.defined() ? part.working.dtype() : working;
  WithType(working, [&](auto type) { StepOfParts<decltype(type)>(cuda, parts, step); });
}

}  // namespace trefoil::cuda
