#include <cmath>

#include "runtime/kernels/cuda_vector.h"

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

// A thread takes a pack.
template <typename A, bool kWorking, typename T>
__global__ void AdamWKernel(float* weight, const float* gradient, float* m, float* v, Factors factors, int64_t n,
                            T* working) {
  constexpr int W = A::kWidth;
  const int64_t i = (blockIdx.x * int64_t{blockDim.x} + threadIdx.x) * W;
  if (i + W <= n) {
    StepPack<A, kWorking>(weight + i, gradient + i, m + i, v + i, factors, working + i);
  } else {
    for (int64_t j = i; j < n; ++j) {
      StepPack<OneByOne, kWorking>(weight + j, gradient + j, m + j, v + j, factors, working + j);
    }
  }
}

template <bool kWorking, typename T>
void QueueSteps(const CudaContext& cuda, float* weight, const float* gradient, float* m, float* v,
                const Factors& factors, int64_t n, T* working) {
  constexpr int kThreads = 256, W = kFullWidth<float>;
  const bool packs = Aligned<W>(weight, gradient, m, v, working);
  const auto kernel = packs ? AdamWKernel<Access<W, true>, kWorking, T> : AdamWKernel<OneByOne, kWorking, T>;
  Launch(cuda, kernel, GridSize(Blocks(n, kThreads * (packs ? W : 1))), kThreads, 0, weight, gradient, m, v, factors, n,
         working);
}

}  // namespace

void AdamW(const CudaContext& cuda, const Tensor& weight, const Tensor& gradient, const Tensor& m, const Tensor& v,
           const AdamWStep& step, const Tensor& working) {
  const int64_t n = weight.elements();
  if (n == 0) return;
  const double t = static_cast<double>(step.step);
  const Factors factors = {step.learning_rate,
                           step.beta1,
                           step.beta2,
                           step.epsilon,
                           step.learning_rate * step.weight_decay,
                           step.gradient_scale,
                           static_cast<float>(1 / (1 - std::pow(static_cast<double>(step.beta1), t))),
                           static_cast<float>(1 / (1 - std::pow(static_cast<double>(step.beta2), t)))};
  const float* g = gradient.data<float>();
  float *w = weight.data<float>(), *m_data = m.data<float>(), *v_data = v.data<float>();
  if (!working.defined()) {
    QueueSteps<false>(cuda, w, g, m_data, v_data, factors, n, static_cast<float*>(nullptr));
    return;
  }
  WithType(working.dtype(), [&](auto type) {
    using T = decltype(type);
    QueueSteps<true>(cuda, w, g, m_data, v_data, factors, n, working.data<T>());
  });
}

}  // namespace trefoil::cuda
