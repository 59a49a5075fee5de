#include <numeric>

#include "tests/runtime/ops_testing.h"

namespace trefoil {
namespace {

// The paper's algorithm 2, in double; m and v are the moments so far.
void ReferenceStep(const AdamWStep& s, const Values& decay, const Values& gradient, Values& weight, Values& m,
                   Values& v) {
  for (size_t i = 0; i < weight.size(); ++i) {
    const double g = gradient[i] * s.gradient_scale;
    m[i] = s.beta1 * m[i] + (1 - static_cast<double>(s.beta1)) * g;
    v[i] = s.beta2 * v[i] + (1 - static_cast<double>(s.beta2)) * g * g;
    const double m_hat = m[i] / (1 - std::pow(static_cast<double>(s.beta1), s.step));
    const double v_hat = v[i] / (1 - std::pow(static_cast<double>(s.beta2), s.step));
    weight[i] -= s.learning_rate * (m_hat / (std::sqrt(v_hat) + s.epsilon) + decay[i] * weight[i]);
  }
}

// Tensors of these sizes in one buffer each of weight, gradient, m and v, back to back: most start on no 16 bytes.
struct Buffers {
  Tensor weight, gradient, m, v, working;
  std::vector<AdamWPart> parts;
};

Buffers NewBuffers(Device& device, DType dtype, const std::vector<int64_t>& sizes, bool has_working) {
  const int64_t n = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  const DType f = DType::kFloat32;
  Buffers b = {.weight = Random(device, f, {n}, 1),
               .gradient = Poisoned(device, f, {n}),
               .m = From(device, f, {n}, Values(n, 0)),
               .v = From(device, f, {n}, Values(n, 0)),
               .working = Poisoned(device, dtype, {n}),
               .parts = {}};
  int64_t begin = 0;
  for (const int64_t size : sizes) {
    const Shape shape = {size};
    b.parts.push_back({.weight = b.weight.Range(begin, shape),
                       .gradient = b.gradient.Range(begin, shape),
                       .m = b.m.Range(begin, shape),
                       .v = b.v.Range(begin, shape),
                       .working = has_working ? b.working.Range(begin, shape) : Tensor(),
                       .weight_decay = 0.1f * static_cast<float>(b.parts.size() % 3)});
    begin += size;
  }
  return b;
}

// All sizes in one call; and more parts than a table of the CUDA kernel holds.
TEST_P(DTypes, AdamWOverSteps) {
  std::vector<int64_t> many;
  for (int64_t i = 0; i < 200; ++i) many.push_back(i * 7 % 40);
  for (const std::vector<int64_t>& sizes : {std::vector<int64_t>{}, {0}, {1}, {40003}, {8, 0, 1, 19, 4096, 40003, 4097},
                                            many}) {
    for (const bool has_working : {false, true}) {
      SCOPED_TRACE(testing::Message() << sizes.size() << " parts, working copy " << has_working);
      Values weight_reference, m_reference, v_reference;
      const auto results = RunWithThreads([&](Device& device) {
        const Buffers b = NewBuffers(device, GetParam(), sizes, has_working);
        weight_reference = Get(device, b.weight);
        m_reference = v_reference = Values(weight_reference.size(), 0);
        for (int step = 1; step <= 5; ++step) {
          const AdamWStep s = {.learning_rate = 1e-2f * static_cast<float>(step),
                               .beta1 = 0.9f,
                               .beta2 = 0.95f,
                               .epsilon = 1e-8f,
                               .step = step,
                               .gradient_scale = 0.5f};
          Cast(device, Random(device, DType::kFloat32, b.gradient.shape(), 10 + step), b.gradient);
          Values decay;
          for (const AdamWPart& part : b.parts) decay.insert(decay.end(), part.weight.elements(), part.weight_decay);
          ReferenceStep(s, decay, Get(device, b.gradient), weight_reference, m_reference, v_reference);
          AdamW(device, b.parts, s);
        }
        return std::vector<Tensor>{b.weight, b.m, b.v, b.working};
      });
      ExpectClose(results[0], weight_reference, 3e-6, "weight");
      // A few values that nearly cancel have no larger ones beside them.
      ExpectClose(results[1], m_reference, m_reference.size() < 100 ? ToleranceOfInputs(3e-6, 1e-3) : 3e-6, "m");
      ExpectClose(results[2], v_reference, 3e-6, "v");
      if (!has_working) {
        for (const double value : results[3]) EXPECT_TRUE(std::isnan(value));
        continue;
      }
      Values rounded = results[0];
      for (double& value : rounded) {
        if (GetParam() == DType::kBFloat16) value = static_cast<float>(BFloat16(static_cast<float>(value)));
      }
      EXPECT_EQ(results[3], rounded);
    }
  }
}

// Parts with a working copy beside parts without, and the same bits as a call for each.
TEST_P(DTypes, AdamWOfPartsIsAdamWOfEach) {
  const std::vector<int64_t> sizes = {5000, 3, 16, 70000, 1};
  const AdamWStep step = {.learning_rate = 0.01f, .beta1 = 0.9f, .beta2 = 0.95f, .epsilon = 1e-8f, .step = 3};
  const std::unique_ptr<Device> device = NewTestDevice();
  std::vector<std::vector<char>> bits;
  for (const bool together : {true, false}) {
    Buffers b = NewBuffers(*device, GetParam(), sizes, true);
    Cast(*device, Random(*device, DType::kFloat32, b.gradient.shape(), 7), b.gradient);
    b.parts[1].working = b.parts[3].working = Tensor();
    if (together) {
      AdamW(*device, b.parts, step);
    } else {
      for (const AdamWPart& part : b.parts) AdamW(*device, {&part, 1}, step);
    }
    for (const Tensor& x : {b.weight, b.m, b.v, b.working}) bits.push_back(Bits(*device, x));
  }
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(bits[i], bits[i + 4]) << i;
}

// The first step moves every weight by the learning rate against its gradient's sign, whatever its size.
TEST(AdamW, FirstStep) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const DType f = DType::kFloat32;
  const AdamWPart part = {.weight = From(*device, f, {3}, {1, 1, 1}),
                          .gradient = From(*device, f, {3}, {1e-3, -50, 0}),
                          .m = From(*device, f, {3}, {0, 0, 0}),
                          .v = From(*device, f, {3}, {0, 0, 0}),
                          .working = {},
                          .weight_decay = 0};
  AdamW(*device, {&part, 1}, {.learning_rate = 0.1f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-10f});
  ExpectClose(Get(*device, part.weight), {0.9, 1.1, 1.0}, 1e-6);
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
