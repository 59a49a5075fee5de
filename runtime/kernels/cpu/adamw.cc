#include <cmath>

#include "runtime/kernels/cpu/vector.h"

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

void AdamWOfPart(const CpuContext& cpu, const AdamWPart& part, const Factors& factors) {
  const float* g = part.gradient.data<float>();
  float *w = part.weight.data<float>(), *m_data = part.m.data<float>(), *v_data = part.v.data<float>();
  WithType(part.working.defined() ? part.working.dtype() : DType::kFloat32, [&](auto type) {
    using T = decltype(type);
    T* copy = part.working.defined() ? part.working.data<T>() : nullptr;
    ParallelBlocks(cpu, part.weight.elements(), kGrain, [=](int64_t i, int64_t end) {
      if (copy == nullptr) {
        AdamWRange<false, T>(w + i, g + i, m_data + i, v_data + i, factors, end - i, nullptr);
      } else {
        AdamWRange<true, T>(w + i, g + i, m_data + i, v_data + i, factors, end - i, copy + i);
      }
    });
  });
}

}  // namespace

void AdamW(const CpuContext& cpu, std::span<const AdamWPart> parts, const AdamWStep& step) {
  const double t = static_cast<double>(step.step);
  for (const AdamWPart& part : parts) {
    AdamWOfPart(cpu, part,
                {.rate = step.learning_rate,
                 .beta1 = step.beta1,
                 .beta2 = step.beta2,
                 .epsilon = step.epsilon,
                 .decay = step.learning_rate * part.weight_decay,
                 .gradient_scale = step.gradient_scale,
                 .m_scale = static_cast<float>(1 / (1 - std::pow(static_cast<double>(step.beta1), t))),
                 .v_scale = static_cast<float>(1 / (1 - std::pow(static_cast<double>(step.beta2), t)))});
  }
}

}  // namespace trefoil::cpu
