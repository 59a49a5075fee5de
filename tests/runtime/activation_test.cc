#include <limits>

#include "tests/runtime/ops_testing.h"

namespace trefoil {
namespace {

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

const double kSqrt2OverPi = std::sqrt(2 / M_PI);
double Cubic(double x) { return kSqrt2OverPi * (x + 0.044715 * x * x * x); }
// Without the cancellation of 1 + tanh.
double Gelu(double x) { return x * Sigmoid(2 * Cubic(x)); }
double GeluSlope(double x) {
  const double t = std::tanh(Cubic(x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * kSqrt2OverPi * (1 + 3 * 0.044715 * x * x);
}
double GeluErf(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2)); }
double GeluErfSlope(double x) {
  return 0.5 * std::erfc(-x / std::sqrt(2)) + x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
}
double Relu(double x) { return std::isnan(x) || x > 0 ? x : 0; }
double ReluSlope(double x) { return x > 0 ? 1 : 0; }
double Silu(double x) { return x * Sigmoid(x); }
double SiluSlope(double x) { return Sigmoid(x) + x * Sigmoid(x) * (1 - Sigmoid(x)); }
double Tanh(double x) { return std::tanh(x); }
double TanhSlope(double x) { return 1 - std::tanh(x) * std::tanh(x); }

struct Function {
  Activation activation;
  const char* name;
  double (*value)(double);
  double (*slope)(double);
};
constexpr Function kFunctions[] = {{Activation::kGelu, "gelu", Gelu, GeluSlope},
                                   {Activation::kGeluErf, "gelu_erf", GeluErf, GeluErfSlope},
                                   {Activation::kRelu, "relu", Relu, ReluSlope},
                                   {Activation::kSilu, "silu", Silu, SiluSlope},
                                   {Activation::kTanh, "tanh", Tanh, TanhSlope}};

const Shape kShapes[] = {{7, 5}, {1, 9}, {0, 4}, {40, 1031}, {2, 3, 17}};

TEST_P(DTypes, Activate) {
  for (const Function& function : kFunctions) {
    for (const Shape& shape : kShapes) {
      for (const bool in_place : {false, true}) {
        SCOPED_TRACE(testing::Message() << function.name << " of " << shape);
        Values reference;
        const auto results = RunWithThreads([&](Device& device) {
          const Tensor x = Random(device, GetParam(), shape, 1, 2);
          reference = Get(device, x);
          for (double& value : reference) value = function.value(value);
          const Tensor y = in_place ? x : Poisoned(device, GetParam(), shape);
          Activate(device, function.activation, x, y);
          return std::vector<Tensor>{y};
        });
        ExpectClose(results[0], reference, Tolerance(GetParam()), "y");
      }
    }
  }
}

TEST_P(DTypes, ActivateBackward) {
  for (const Function& function : kFunctions) {
    for (const Shape& shape : kShapes) {
      for (const bool in_place : {false, true}) {
        SCOPED_TRACE(testing::Message() << function.name << " of " << shape);
        Values reference;
        const auto results = RunWithThreads([&](Device& device) {
          const Tensor x = Random(device, GetParam(), shape, 1, 2), dy = Random(device, GetParam(), shape, 2);
          reference = Get(device, dy);
          const Values in = Get(device, x);
          for (size_t i = 0; i < in.size(); ++i) reference[i] *= function.slope(in[i]);
          const Tensor dx = in_place ? dy : Poisoned(device, GetParam(), shape);
          ActivateBackward(device, function.activation, dy, x, dx);
          return std::vector<Tensor>{dx};
        });
        ExpectClose(results[0], reference, Tolerance(GetParam()), "dx");
      }
    }
  }
}

// Relative, not absolute: the tails too, and the ends of the range of exp.
TEST(Activation, IsAccurateEverywhere) {
  const std::unique_ptr<Device> device = NewTestDevice();
  Values points = {0, -0.0, 1e-30, -1e-30, 1e-3, 1e30, -1e30, std::numeric_limits<double>::quiet_NaN()};
  for (double x = -9; x < 12; x += 0.01) points.push_back(static_cast<float>(x));
  const Tensor x = From(*device, DType::kFloat32, {static_cast<int64_t>(points.size())}, points);
  for (const Function& function : kFunctions) {
    const Tensor y = Poisoned(*device, DType::kFloat32, x.shape());
    Activate(*device, function.activation, x, y);
    const Values values = Get(*device, y);
    for (size_t i = 0; i < points.size(); ++i) {
      if (std::isnan(points[i])) {
        EXPECT_TRUE(std::isnan(values[i])) << function.name;
        continue;
      }
      const double reference = function.value(points[i]);
      EXPECT_NEAR(values[i], reference, 2e-5 * std::abs(reference) + 1e-37) << function.name << " of " << points[i];
    }
  }
}

TEST(Activation, ReluHasTheSlope0At0) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const Tensor x = From(*device, DType::kFloat32, {4}, {0, -0.0, 1e-30, -1e-30});
  const Tensor dy = From(*device, DType::kFloat32, {4}, {3, 3, 3, 3});
  ActivateBackward(*device, Activation::kRelu, dy, x, dy);
  EXPECT_EQ(Get(*device, dy), Values({0, 0, 3, 0}));
}

TEST_P(DTypes, GatedActivate) {
  for (const Function& function : kFunctions) {
    for (const auto& [rows, columns] : {std::array<int64_t, 2>{3, 7}, {1, 1}, {0, 5}, {33, 517}, {5, 520}}) {
      for (const bool in_place : {false, true}) {
        SCOPED_TRACE(testing::Message() << function.name << ", " << rows << " x " << columns);
        Values reference, d_reference;
        const auto results = RunWithThreads([&](Device& device) {
          const Tensor gate_up = Random(device, GetParam(), {rows, 2 * columns}, 1, 2);
          const Tensor dy = Random(device, GetParam(), {rows, columns}, 2),
                       y = Poisoned(device, GetParam(), {rows, columns});
          const Values in = Get(device, gate_up), d = Get(device, dy);
          reference.assign(rows * columns, 0);
          d_reference.assign(2 * rows * columns, 0);
          for (int64_t i = 0; i < rows; ++i) {
            for (int64_t j = 0; j < columns; ++j) {
              const double gate = in[2 * i * columns + j], up = in[(2 * i + 1) * columns + j];
              reference[i * columns + j] = function.value(gate) * up;
              d_reference[2 * i * columns + j] = d[i * columns + j] * up * function.slope(gate);
              d_reference[(2 * i + 1) * columns + j] = d[i * columns + j] * function.value(gate);
            }
          }
          GatedActivate(device, function.activation, gate_up, y);
          const Tensor d_gate_up = in_place ? gate_up : Poisoned(device, GetParam(), gate_up.shape());
          GatedActivateBackward(device, function.activation, dy, gate_up, d_gate_up);
          return std::vector<Tensor>{y, d_gate_up};
        });
        ExpectClose(results[0], reference, Tolerance(GetParam()), "y");
        ExpectClose(results[1], d_reference, Tolerance(GetParam()), "d_gate_up");
      }
    }
  }
}

TEST(Activation, BackwardIsTheSlope) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const DType f = DType::kFloat32;
  // None so near to 0 that a difference reaches over ReLU's corner.
  Values values = Get(*device, Random(*device, f, {4, 18}, 1));
  for (double& value : values) value += value < 0 ? -0.05 : 0.05;
  const Tensor x = From(*device, f, {4, 18}, values), y = Poisoned(*device, f, {4, 18});
  const Tensor dx = Poisoned(*device, f, {4, 18}), dy = Random(*device, f, {4, 18}, 2);
  const Tensor gated = Poisoned(*device, f, {4, 9}), d_gated = Random(*device, f, {4, 9}, 3);
  for (const Function& function : kFunctions) {
    SCOPED_TRACE(function.name);
    ActivateBackward(*device, function.activation, dy, x, dx);
    ExpectGradient(
        *device, x,
        [&] {
          Activate(*device, function.activation, x, y);
          return Dot(Get(*device, y), Get(*device, dy));
        },
        Get(*device, dx), "dx");
    GatedActivateBackward(*device, function.activation, d_gated, x, dx);
    ExpectGradient(
        *device, x,
        [&] {
          GatedActivate(*device, function.activation, x, gated);
          return Dot(Get(*device, gated), Get(*device, d_gated));
        },
        Get(*device, dx), "gated dx");
  }
}

// Planner and reports know ops by their names.
TEST(Activation, OpsHaveTheNamesOfTheirFunctions) {
  const std::unique_ptr<Device> device = NewNullDevice();
  std::vector<std::string> names;
  device->Observe([&](const OpCount& count, auto) { names.push_back(count.op); });
  const Tensor x = device->Allocate(DType::kFloat32, {4, 6}, Purpose::kActivations);
  const Tensor half = device->Allocate(DType::kFloat32, {4, 3}, Purpose::kActivations);
  for (const Function& function : kFunctions) {
    names.clear();
    Activate(*device, function.activation, x, x);
    ActivateBackward(*device, function.activation, x, x, x);
    EXPECT_EQ(names, std::vector<std::string>({function.name, std::string(function.name) + "_backward"}));
  }
  names.clear();
  GatedActivate(*device, Activation::kSilu, x, half);
  GatedActivateBackward(*device, Activation::kSilu, half, x, x);
  EXPECT_EQ(names, std::vector<std::string>({"swiglu", "swiglu_backward"}));
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
