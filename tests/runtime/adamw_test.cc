#include "tests/runtime/ops_testing.h"

namespace trefoil {
namespace {

// The paper's algorithm 2, in double; `moments` are m and v so far.
void ReferenceStep(const AdamWStep& s, const Values& gradient, Values& weight, Values& m, Values& v) {
  for (size_t i = 0; i < weight.size(); ++i) {
    const double g = gradient[i] * s.gradient_scale;
    m[i] = s.beta1 * m[i] + (1 - static_cast<double>(s.beta1)) * g;
    v[i] = s.beta2 * v[i] + (1 - static_cast<double>(s.beta2)) * g * g;
    const double m_hat = m[i] / (1 - std::pow(static_cast<double>(s.beta1), s.step));
    const double v_hat = v[i] / (1 - std::pow(static_cast<double>(s.beta2), s.step));
    weight[i] -= s.learning_rate * (m_hat / (std::sqrt(v_hat) + s.epsilon) + s.weight_decay * weight[i]);
  }
}

TEST_P(DTypes, AdamWOverSteps) {
  for (const int64_t n : {0, 1, 19, 40003}) {
    for (const bool has_working : {false, true}) {
      SCOPED_TRACE(testing::Message() << n << " elements, working copy " << has_working);
      Values weight_reference, m_reference, v_reference;
      const auto results = RunWithThreads([&](Device& device) {
        const DType f = DType::kFloat32;
        const Tensor weight = Random(device, f, {n}, 1), m = From(device, f, {n}, Values(n, 0));
        const Tensor v = From(device, f, {n}, Values(n, 0)), working = Poisoned(device, GetParam(), {n});
        weight_reference = Get(device, weight);
        m_reference = v_reference = Values(n, 0);
        for (int step = 1; step <= 5; ++step) {
          const AdamWStep s = {.learning_rate = 1e-2f * static_cast<float>(step),
                               .beta1 = 0.9f,
                               .beta2 = 0.95f,
                               .epsilon = 1e-8f,
                               .weight_decay = 0.1f,
                               .step = step,
                               .gradient_scale = 0.5f};
          const Tensor gradient = Random(device, f, {n}, 10 + step);
          ReferenceStep(s, Get(device, gradient), weight_reference, m_reference, v_reference);
          AdamW(device, weight, gradient, m, v, s, has_working ? working : Tensor());
        }
        return std::vector<Tensor>{weight, m, v, working};
      });
      ExpectClose(results[0], weight_reference, 3e-6, "weight");
      ExpectClose(results[1], m_reference, 3e-6, "m");
      ExpectClose(results[2], v_reference, 3e-6, "v");
      if (!has_working) continue;
      Values rounded = results[0];
      for (double& value : rounded) {
        if (GetParam() == DType::kBFloat16) value = static_cast<float>(BFloat16(static_cast<float>(value)));
      }
      EXPECT_EQ(results[3], rounded);
    }
  }
}

// The first step moves every weight by the learning rate against its gradient's sign, whatever its size.
TEST(AdamW, FirstStep) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const DType f = DType::kFloat32;
  const Tensor weight = From(*device, f, {3}, {1, 1, 1}), gradient = From(*device, f, {3}, {1e-3, -50, 0});
  const Tensor m = From(*device, f, {3}, {0, 0, 0}), v = From(*device, f, {3}, {0, 0, 0});
  AdamW(*device, weight, gradient, m, v, {.learning_rate = 0.1f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-10f},
        {});
  ExpectClose(Get(*device, weight), {0.9, 1.1, 1.0}, 1e-6);
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
