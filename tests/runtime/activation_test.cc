#include <limits>

#include "tests/runtime/ops_testing.h"

namespace trefoil {
namespace {

double GeluReference(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
double GeluSlope(double x) {
  const double t = std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * std::sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
}
double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

template <typename F>
Values Map(const Values& x, const F& f) {
  Values y;
  for (const double v : x) y.push_back(f(v));
  return y;
}

const Shape kShapes[] = {{7, 5}, {1, 1}, {0, 4}, {40, 1031}, {2, 3, 17}};

TEST_P(DTypes, Gelu) {
  for (const Shape& shape : kShapes) {
    for (const bool in_place : {false, true}) {
      Values reference;
      const auto results = RunWithThreads([&](Device& device) {
        const Tensor x = Random(device, GetParam(), shape, 1, 2);
        reference = Map(Get(device, x), GeluReference);
        const Tensor y = in_place ? x : Poisoned(device, GetParam(), shape);
        Gelu(device, x, y);
        return std::vector<Tensor>{y};
      });
      ExpectClose(results[0], reference, Tolerance(GetParam()), "y");
    }
  }
}

TEST_P(DTypes, GeluBackward) {
  for (const Shape& shape : kShapes) {
    for (const bool in_place : {false, true}) {
      Values reference;
      const auto results = RunWithThreads([&](Device& device) {
        const Tensor x = Random(device, GetParam(), shape, 1, 2), dy = Random(device, GetParam(), shape, 2);
        reference = Map(Get(device, x), GeluSlope);
        const Values d = Get(device, dy);
        for (size_t i = 0; i < d.size(); ++i) reference[i] *= d[i];
        const Tensor dx = in_place ? dy : Poisoned(device, GetParam(), shape);
        GeluBackward(device, dy, x, dx);
        return std::vector<Tensor>{dx};
      });
      ExpectClose(results[0], reference, Tolerance(GetParam()), "dx");
    }
  }
}

// Relative, not absolute: the tails too, and the ends of the range of exp.
TEST(Activation, GeluIsAccurateEverywhere) {
  const std::unique_ptr<Device> device = NewTestDevice();
  Values points = {0, -0.0, 1e-30, 1e30, -1e30, std::numeric_limits<double>::quiet_NaN()};
  for (double x = -9; x < 12; x += 0.01) points.push_back(static_cast<float>(x));
  const Tensor x = From(*device, DType::kFloat32, {static_cast<int64_t>(points.size())}, points);
  const Tensor y = Poisoned(*device, DType::kFloat32, x.shape());
  Gelu(*device, x, y);
  const Values values = Get(*device, y);
  for (size_t i = 0; i < points.size(); ++i) {
    if (std::isnan(points[i])) {
      EXPECT_TRUE(std::isnan(values[i]));
      continue;
    }
    const double reference =
        points[i] * Sigmoid(2 * std::sqrt(2 / M_PI) * (points[i] + 0.044715 * std::pow(points[i], 3)));
    EXPECT_NEAR(values[i], reference, 2e-5 * std::abs(reference) + 1e-37) << points[i];
  }
}

TEST_P(DTypes, SwiGlu) {
  for (const auto& [rows, columns] : {std::array<int64_t, 2>{3, 7}, {1, 1}, {0, 5}, {33, 517}}) {
    Values reference, d_reference;
    for (const bool in_place : {false, true}) {
      const auto results = RunWithThreads([&](Device& device) {
        const Tensor gate_up = Random(device, GetParam(), {rows, 2 * columns}, 1, 2);
        const Tensor dy = Random(device, GetParam(), {rows, columns}, 2),
                     y = Poisoned(device, GetParam(), {rows, columns});
        const Values in = Get(device, gate_up), d = Get(device, dy);
        reference.assign(rows * columns, 0);
        d_reference.assign(2 * rows * columns, 0);
        for (int64_t i = 0; i < rows; ++i) {
          for (int64_t j = 0; j < columns; ++j) {
            const double gate = in[2 * i * columns + j], up = in[(2 * i + 1) * columns + j], s = Sigmoid(gate);
            reference[i * columns + j] = gate * s * up;
            d_reference[2 * i * columns + j] = d[i * columns + j] * up * (s + gate * s * (1 - s));
            d_reference[(2 * i + 1) * columns + j] = d[i * columns + j] * gate * s;
          }
        }
        SwiGlu(device, gate_up, y);
        const Tensor d_gate_up = in_place ? gate_up : Poisoned(device, GetParam(), gate_up.shape());
        SwiGluBackward(device, dy, gate_up, d_gate_up);
        return std::vector<Tensor>{y, d_gate_up};
      });
      ExpectClose(results[0], reference, Tolerance(GetParam()), "y");
      ExpectClose(results[1], d_reference, Tolerance(GetParam()), "d_gate_up");
    }
  }
}

TEST(Activation, BackwardIsTheSlope) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const DType f = DType::kFloat32;
  const Tensor x = Random(*device, f, {4, 18}, 1), y = Poisoned(*device, f, {4, 18}),
               dx = Poisoned(*device, f, {4, 18});
  const Tensor dy = Random(*device, f, {4, 18}, 2);
  GeluBackward(*device, dy, x, dx);
  ExpectGradient(
      *device, x,
      [&] {
        Gelu(*device, x, y);
        return Dot(Get(*device, y), Get(*device, dy));
      },
      Get(*device, dx), "gelu dx");
  const Tensor glu = Poisoned(*device, f, {4, 9}), d_glu = Random(*device, f, {4, 9}, 3);
  SwiGluBackward(*device, d_glu, x, dx);
  ExpectGradient(
      *device, x,
      [&] {
        SwiGlu(*device, x, glu);
        return Dot(Get(*device, glu), Get(*device, d_glu));
      },
      Get(*device, dx), "swiglu dx");
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
