#include <limits>

#include "tests/runtime/ops_testing.h"

namespace trefoil {
namespace {

const Shape kShapes[] = {{3, 7}, {1, 1}, {0, 5}, {33, 517}, {65, 96}, {5, 4096}};

void Compare(DType dtype, bool weighted) {
  constexpr float kScale = 0.37f;
  for (const Shape& shape : kShapes) {
    for (const bool in_place : {false, true}) {
      SCOPED_TRACE(testing::Message() << shape << (in_place ? " in place" : ""));
      const int64_t rows = shape[0], columns = shape[1];
      Values reference, d_reference;
      const auto results = RunWithThreads([&](Device& device) {
        const Tensor prediction = Random(device, dtype, shape, 1), target = Random(device, DType::kFloat32, shape, 2);
        Values weight(rows, 1);
        for (int64_t i = 0; weighted && i < rows; ++i) weight[i] = static_cast<double>((i + 1) % 4) / 2;
        const Tensor weights = weighted ? From(device, DType::kFloat32, {rows}, weight) : Tensor();
        const Values p = Get(device, prediction), t = Get(device, target);
        reference.assign(rows, 0);
        d_reference.clear();
        for (size_t i = 0; i < p.size(); ++i) {
          const size_t row = i / columns;
          reference[row] += weight[row] * (p[i] - t[i]) * (p[i] - t[i]) / static_cast<double>(columns);
          d_reference.push_back(kScale * weight[row] * 2 / static_cast<double>(columns) * (p[i] - t[i]));
        }
        const Tensor loss = Poisoned(device, DType::kFloat32, {rows});
        const Tensor d = in_place ? prediction : Poisoned(device, dtype, shape);
        SquaredError(device, prediction, target, weights, loss);
        SquaredErrorBackward(device, prediction, target, weights, kScale, d);
        return std::vector<Tensor>{loss, d};
      });
      ExpectClose(results[0], reference, 3e-6, "loss");
      ExpectClose(results[1], d_reference, Tolerance(dtype), "d_prediction");
    }
  }
}

TEST_P(DTypes, SquaredError) { Compare(GetParam(), /*weighted=*/false); }
TEST_P(DTypes, WeightedSquaredError) { Compare(GetParam(), /*weighted=*/true); }

TEST_P(DTypes, SquaredErrorOfWeightZeroIgnoresWhatIsThere) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const DType f = DType::kFloat32;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Tensor prediction = From(*device, GetParam(), {3, 2}, {nan, 1, 2, 3, 5, 1});
  const Tensor target = From(*device, f, {3, 2}, {0, 0, nan, nan, 1, 1}), weights = From(*device, f, {3}, {0, 0, 2});
  const Tensor loss = Poisoned(*device, f, {3}), d = Poisoned(*device, GetParam(), {3, 2});
  SquaredError(*device, prediction, target, weights, loss);
  SquaredErrorBackward(*device, prediction, target, weights, 1, d);
  EXPECT_EQ(Get(*device, loss), Values({0, 0, 16}));
  EXPECT_EQ(Get(*device, d), Values({0, 0, 0, 0, 8, 0}));
}

TEST(SquaredError, BackwardIsTheSlope) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const DType f = DType::kFloat32;
  const Tensor prediction = Random(*device, f, {5, 11}, 1), target = Random(*device, f, {5, 11}, 2);
  const Tensor loss = Poisoned(*device, f, {5}), d = Poisoned(*device, f, {5, 11});
  for (const Tensor& weights : {Tensor(), From(*device, f, {5}, {1, 0, 0.5, 3, 0.5})}) {
    SquaredErrorBackward(*device, prediction, target, weights, 0.2f, d);
    ExpectGradient(
        *device, prediction,
        [&] {
          SquaredError(*device, prediction, target, weights, loss);
          return Sum(*device, loss) / 5;
        },
        Get(*device, d), "d_prediction");
  }
}

TEST(SquaredErrorDeathTest, RefusesWrongShapes) {
  const std::unique_ptr<Device> device = NewNullDevice();
  const auto make = [&](Shape shape) { return device->Allocate(DType::kFloat32, shape, Purpose::kActivations); };
  EXPECT_DEATH(SquaredError(*device, make({2, 3}), make({2, 4}), {}, make({2})), "target is .2, 4., must be .2, 3.");
  EXPECT_DEATH(SquaredError(*device, make({2, 3}), make({2, 3}), make({3}), make({2})), "weights is .3., must be .2.");
  EXPECT_DEATH(SquaredError(*device, make({2, 0}), make({2, 0}), {}, make({2})), "no columns");
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
