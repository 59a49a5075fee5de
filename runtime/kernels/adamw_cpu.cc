#include <cmath>

#include "runtime/kernels/vector.h"

namespace trefoil::cpu {
namespace {

// The step with its bias corrections: weight -= rate * (m * m_scale / (sqrt(v * v_scale) + epsilon)) + decay * weight.
struct Factors {
  float rate, beta1, beta2, epsilon, decay, gradient_scale, m_scale, v_scale;
};

template <bool kWorking, typename T>
void AdamWRange(float* __restrict weight, const float* __restrict gradient, float* __restrict m, float* __restrict v,
                const Factors& factors, int64_t n, T* __restrict working) {
  const Factors f = factors;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = gradient[i] * f.gradient_scale;
    m[i] = f.beta1 * m[i] + (1.0f - f.beta1) * g;
    v[i] = f.beta2 * v[i] + (1.0f - f.beta2) * (g * g);
    const float direction = m[i] * f.m_scale / (std::sqrt(v[i] * f.v_scale) + f.epsilon);
    weight[i] -= f.rate * direction + f.decay * weight[i];
    if (kWorking) Store(working[i], weight[i]);
  }
}

}  // namespace

void AdamW(const CpuContext& cpu, const Tensor& weight, const Tensor& gradient, const Tensor& m, const Tensor& v,
           const AdamWStep& step, const Tensor& working) {
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
  WithType(working.defined() ? working.dtype() : DType::kFloat32, [&](auto type) {
    using T = decltype(type);
    T* copy = working.defined() ? working.data<T>() : nullptr;
    ParallelBlocks(cpu, weight.elements(), kGrain, [=](int64_t i, int64_t end) {
      if (copy == nullptr) {
        AdamWRange<false, T>(w + i, g + i, m_data + i, v_data + i, factors, end - i, nullptr);
      } else {
        AdamWRange<true, T>(w + i, g + i, m_data + i, v_data + i, factors, end - i, copy + i);
      }
    });
  });
}

}  // namespace trefoil::cpu
