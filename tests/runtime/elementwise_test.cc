#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <random>
#include <utility>

#include "tests/runtime/ops_testing.h"
#include "tests/runtime/sum_order.h"

namespace trefoil {
namespace {

const Shape kMatrices[] = {{3, 5}, {1, 64}, {0, 4}, {4, 0}, {700, 33}, {17, 2100}};

TEST_P(DTypes, AddBiasAndBiasBackward) {
  for (const Shape& shape : kMatrices) {
    SCOPED_TRACE(shape);
    const int64_t columns = shape[1];
    Values reference, d_reference;
    const auto results = RunWithThreads([&](Device& device) {
      const Tensor x = Random(device, GetParam(), shape, 1), bias = Random(device, GetParam(), {columns}, 2);
      const Tensor d_bias = Random(device, DType::kFloat32, {columns}, 3);
      const Values b = Get(device, bias);
      reference = Get(device, x);
      d_reference = Get(device, d_bias);
      for (size_t i = 0; i < reference.size(); ++i) {
        d_reference[i % columns] += reference[i];
        reference[i] += b[i % columns];
      }
      BiasBackward(device, x, d_bias);
      AddBias(device, x, bias);
      return std::vector<Tensor>{x, d_bias};
    });
    ExpectClose(results[0], reference, Tolerance(GetParam()), "x");
    ExpectClose(results[1], d_reference, 3e-6, "d_bias");
  }
}

TEST_P(DTypes, Add) {
  for (const Shape& shape : {Shape{}, {5}, {0}, {3, 4, 5}, {40, 1001}}) {
    for (const int target : {0, 1, 2}) {  // fresh, in a, in b
      Values reference;
      const auto results = RunWithThreads([&](Device& device) {
        const Tensor a = Random(device, GetParam(), shape, 1), b = Random(device, GetParam(), shape, 2);
        const Tensor out = target == 0 ? Poisoned(device, GetParam(), shape) : target == 1 ? a : b;
        reference = Get(device, a);
        const Values other = Get(device, b);
        for (size_t i = 0; i < other.size(); ++i) reference[i] += other[i];
        Add(device, a, b, out);
        return std::vector<Tensor>{out};
      });
      ExpectClose(results[0], reference, Tolerance(GetParam()));
    }
  }
}

TEST_P(DTypes, Scale) {
  for (const Shape& shape : {Shape{}, {5}, {0}, {3, 4, 5}, {40, 1001}}) {
    for (const bool in_place : {false, true}) {
      Values reference;
      const auto results = RunWithThreads([&](Device& device) {
        const Tensor x = Random(device, GetParam(), shape, 1);
        reference = Get(device, x);
        for (double& value : reference) {
          const float product = 0.37f * static_cast<float>(value);
          value = GetParam() == DType::kFloat32 ? product : static_cast<float>(BFloat16(product));
        }
        const Tensor y = in_place ? x : Poisoned(device, GetParam(), shape);
        Scale(device, x, 0.37f, y);
        return std::vector<Tensor>{y};
      });
      EXPECT_EQ(results[0], reference);  // to the bit
    }
  }
}

TEST_P(DTypes, SumPartsAddsInOrder) {
  const std::vector<Shape> shapes = {{1, 7},    {2, 0},    {2, 33},  {3, 5000}, {5, 40},  {6, 40},
                                     {7, 1100}, {8, 4097}, {11, 70}, {23, 9},   {64, 40}, {100, 40}};
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(shape);
    Values reference;
    const auto results = RunWithThreads([&](Device& device) {
      const Tensor parts = Random(device, GetParam(), shape, 1), out = Poisoned(device, GetParam(), {shape[1]});
      const Values in = Get(device, parts);
      reference.clear();
      for (int64_t j = 0; j < shape[1]; ++j) {
        std::vector<float> values;
        for (int64_t p = 0; p < shape[0]; ++p) values.push_back(static_cast<float>(in[p * shape[1] + j]));
        const float sum = SumInOrder(values);
        reference.push_back(GetParam() == DType::kFloat32 ? sum : static_cast<float>(BFloat16(sum)));
      }
      SumParts(device, parts, out);
      return std::vector<Tensor>{out};
    });
    EXPECT_EQ(results[0], reference);  // to the bit
  }
}

TEST(Elementwise, CastRoundsToNearestEven) {
  // 1 + 2^-8 lies half way between two bf16: to even, down; 1 + 3 * 2^-8: to even, up.
  const Values in = {1 + 0x1p-8, 1 + 3 * 0x1p-8, 1 + 0x1.8p-8, -(1 + 0x1p-8), 3.4e38, 0, 1e-40, -INFINITY};
  const std::unique_ptr<Device> device = NewTestDevice();
  const Tensor x = From(*device, DType::kFloat32, {8}, in), y = Poisoned(*device, DType::kBFloat16, {8});
  Cast(*device, x, y);
  Values values = Get(*device, y);
  EXPECT_NEAR(values[6], 1e-40, 1e-40);  // a denormal, coarsely
  values[6] = 0;
  EXPECT_EQ(values, Values({1, 1 + 0x1p-6, 1 + 0x1p-7, -1, INFINITY, 0, 0, -INFINITY}));
  Cast(*device, From(*device, DType::kFloat32, {8}, Values(8, NAN)), y);
  for (const double value : Get(*device, y)) EXPECT_TRUE(std::isnan(value));
}

TEST_P(DTypes, CopyColumnsConverts) {
  struct Case {
    int64_t rows, from_columns, from_first, to_columns, to_first, columns;
  };
  for (const Case& c : {Case{5, 24, 8, 40, 16, 8}, Case{3, 7, 2, 5, 1, 3}, Case{700, 96, 32, 64, 0, 64},
                        Case{0, 4, 0, 4, 0, 4}, Case{4, 6, 3, 6, 3, 0}, Case{17, 2100, 4, 2200, 8, 2048}}) {
    for (const DType to_type : {DType::kFloat32, DType::kBFloat16}) {
      SCOPED_TRACE(testing::Message() << c.columns << " of " << c.from_columns << " columns to " << Name(to_type));
      Values reference;
      const auto results = RunWithThreads([&](Device& device) {
        const Tensor from = Random(device, GetParam(), {c.rows, c.from_columns}, 1);
        const Tensor to = Random(device, to_type, {c.rows, c.to_columns}, 2);
        const Values values = Get(device, from);
        reference = Get(device, to);
        for (int64_t i = 0; i < c.rows; ++i) {
          for (int64_t j = 0; j < c.columns; ++j) {
            const auto value = static_cast<float>(values[i * c.from_columns + c.from_first + j]);
            reference[i * c.to_columns + c.to_first + j] =
                to_type == DType::kFloat32 ? value : static_cast<float>(BFloat16(value));
          }
        }
        CopyColumns(device, {from, c.from_first}, c.columns, {to, c.to_first});
        return std::vector<Tensor>{to};
      });
      EXPECT_EQ(results[0], reference);
    }
  }
}

TEST_P(DTypes, CastBothWays) {
  for (const Shape& shape : {Shape{}, {0}, {5, 7}, {40, 1001}}) {
    Values in;
    const auto results = RunWithThreads([&](Device& device) {
      const Tensor x = Random(device, GetParam(), shape, 1);
      const Tensor wide = Poisoned(device, DType::kFloat32, shape), back = Poisoned(device, GetParam(), shape);
      in = Get(device, x);
      Cast(device, x, wide);
      Cast(device, wide, back);
      return std::vector<Tensor>{wide, back};
    });
    EXPECT_EQ(results[0], in);
    EXPECT_EQ(results[1], in);
  }
}

TEST_P(DTypes, Fill) {
  const auto results = RunWithThreads([&](Device& device) {
    const Tensor x = Poisoned(device, GetParam(), {41, 1003}), none = Poisoned(device, GetParam(), {0});
    Fill(device, none, 1);
    Fill(device, x, -1.5f);
    return std::vector<Tensor>{x};
  });
  EXPECT_EQ(results[0], Values(41 * 1003, -1.5));
}

// Too large for caches, and not on a whole vector: what lies around it stays.
TEST_P(DTypes, FillOfALargeRange) {
  constexpr int64_t kElements = 8'400'000;
  const auto results = RunWithThreads([&](Device& device) {
    const Tensor x = Poisoned(device, GetParam(), {kElements + 10});
    Fill(device, x.Range(0, {3}), 1);
    Fill(device, x.Range(3 + kElements, {7}), 2);
    Fill(device, x.Range(3, {kElements}), -1.5f);
    return std::vector<Tensor>{x};
  });
  Values expected(kElements + 10, -1.5);
  std::fill_n(expected.begin(), 3, 1);
  std::fill_n(expected.end() - 7, 7, 2);
  EXPECT_TRUE(results[0] == expected);  // not EXPECT_EQ, which would print them all
}

TEST_P(DTypes, Sums) {
  for (const int64_t n : {0, 1, 1000, 65536, 65537, 300000}) {
    SCOPED_TRACE(n);
    double sums[2][2];
    for (const int threads : {1, 2}) {
      const std::unique_ptr<Device> device = NewTestDevice(threads);
      const Tensor x = Random(*device, GetParam(), {n}, 1, 1, 0.5);
      const Values values = Get(*device, x);
      sums[threads - 1][0] = SumOfSquares(*device, x);
      sums[threads - 1][1] = Sum(*device, x);
      double squares = 0, sum = 0;
      for (const double value : values) squares += value * value;
      for (const double value : values) sum += value;
      EXPECT_NEAR(sums[threads - 1][0], squares, 1e-12 * squares);
      EXPECT_NEAR(sums[threads - 1][1], sum, 1e-12 * squares);
    }
    EXPECT_EQ(sums[0][0], sums[1][0]);
    EXPECT_EQ(sums[0][1], sums[1][1]);
  }
}

// Many tensors at once, of both dtypes, some of them not on 16 bytes.
TEST(Elementwise, SumsOfManyTensors) {
  std::vector<double> results[2];
  for (const int threads : {1, 2}) {
    const std::unique_ptr<Device> device = NewTestDevice(threads);
    const Tensor wide = Random(*device, DType::kFloat32, {200000}, 1, 1, 0.5);
    const Tensor narrow = Random(*device, DType::kBFloat16, {200000}, 2, 1, 0.5);
    std::vector<Tensor> summed, squared;
    for (int64_t i = 0; i < 300; ++i) {  // more than a table of the CUDA kernel holds
      const Tensor& from = i % 3 == 0 ? narrow : wide;
      const Shape shape = {i == 7 ? 0 : i == 9 ? 100000 : i * 5 % 101};
      (i % 2 == 0 ? summed : squared).push_back(from.Range(i * 17, shape));
    }
    double sum = 0, squares = 0;
    for (const Tensor& x : summed) {
      for (const double value : Get(*device, x)) sum += value;
    }
    for (const Tensor& x : squared) {
      for (const double value : Get(*device, x)) squares += value * value;
    }
    const ExactSums both = Sums(*device, summed, squared);
    EXPECT_NEAR(both.sum.value(), sum, 1e-12 * squares);
    EXPECT_NEAR(both.sum_of_squares.value(), squares, 1e-12 * squares);
    results[threads - 1] = {both.sum.value(), both.sum_of_squares.value(), Sums(*device, summed, {}).sum.value(),
                            Sums(*device, {}, squared).sum_of_squares.value()};
    EXPECT_EQ(both.sum.value(), results[threads - 1][2]);
    EXPECT_EQ(both.sum_of_squares.value(), results[threads - 1][3]);
    EXPECT_EQ(Sums(*device, {}, {}).sum.value(), 0);
  }
  EXPECT_EQ(results[0], results[1]);
}

// The same elements in other tensors, in another order, of sizes from 1e-30 to 1e13, some of which cancel: the same
// bits.
TEST(Elementwise, SumsAreExact) {
  const std::unique_ptr<Device> device = NewTestDevice(2);
  std::mt19937_64 engine(5);
  std::vector<float> values(70000);
  for (float& value : values) {
    value = std::ldexp(static_cast<float>(static_cast<int64_t>(engine() % (1 << 25)) - (1 << 24)),
                       static_cast<int>(engine() % 120) - 100);
  }
  long double sum = 0, squares = 0, sizes = 0;
  for (const float value : values) {
    sum += value;
    sizes += std::abs(value);
    squares += static_cast<long double>(value) * value;
  }
  double first[2] = {};
  for (int order = 0; order < 4; ++order) {
    const Tensor x = device->Allocate(DType::kFloat32, {static_cast<int64_t>(values.size())}, Purpose::kActivations);
    device->Upload(values.data(), x);
    std::vector<Tensor> parts;
    for (int64_t at = 0, size = 1 + order; at < x.elements(); at += size, size = size * (2 + order) % 40009 + 1) {
      parts.push_back(x.Range(at, {std::min(size, x.elements() - at)}));
    }
    const ExactSums sums = Sums(*device, parts, parts);
    const double found[2] = {sums.sum.value(), sums.sum_of_squares.value()};
    if (order == 0) {
      std::copy_n(found, 2, first);
      EXPECT_NEAR(found[0], static_cast<double>(sum), static_cast<double>(1e-14L * sizes));
      EXPECT_NEAR(found[1], static_cast<double>(squares), static_cast<double>(1e-14L * squares));
    }
    EXPECT_EQ(found[0], first[0]);
    EXPECT_EQ(found[1], first[1]);
    std::shuffle(values.begin(), values.end(), engine);
  }
}

// A NaN or an infinity is not lost, and what is beyond the grid is still added.
// Every step adds up the squares of all gradients. With AVX-512 it takes about twice as long as their conversion; a
// kernel that computed a constant for each summand took hundreds of times as long.
TEST(Elementwise, SumsOfSquaresTakeNoMoreThanSomePassesOverMemory) {
  const auto device = NewCpuDevice(/*threads=*/1);
  const Tensor x = Random(*device, DType::kFloat32, {1 << 20}, 1);
  const Tensor narrow = device->Allocate(DType::kBFloat16, x.shape(), Purpose::kActivations);
  const auto fastest = [](const auto& call) {
    double seconds = std::numeric_limits<double>::infinity();
    for (int i = 0; i < 10; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      call();
      seconds = std::min(seconds, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    return seconds;
  };
  const double conversion = fastest([&] { Cast(*device, x, narrow); });
  EXPECT_LT(fastest([&] { SumOfSquares(*device, x); }), 60 * conversion);
}

TEST(Elementwise, SumsKeepWhatIsNotFinite) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const float infinity = std::numeric_limits<float>::infinity();
  const auto sums_of = [&](std::vector<float> values) {
    values.resize(5000, 1);
    const Tensor x = device->Allocate(DType::kFloat32, {5000}, Purpose::kActivations);
    device->Upload(values.data(), x);
    return std::pair(Sum(*device, x), SumOfSquares(*device, x));
  };
  EXPECT_TRUE(std::isnan(sums_of({std::nanf("")}).first));
  EXPECT_TRUE(std::isnan(sums_of({std::nanf("")}).second));
  EXPECT_EQ(sums_of({infinity}).first, infinity);
  EXPECT_EQ(sums_of({-infinity}).first, -infinity);
  EXPECT_EQ(sums_of({-infinity}).second, infinity);
  EXPECT_TRUE(std::isnan(sums_of({-infinity, infinity}).first));
  EXPECT_EQ(sums_of({3e38f}).first, double{3e38f});
  EXPECT_EQ(sums_of({3e38f}).second, double{3e38f} * 3e38f);
  EXPECT_EQ(sums_of({1e-30f}).first, 4999);
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
