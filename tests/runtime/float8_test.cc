// fp8: the formats against their definition, quantization, and products against the decoded values.
#include <algorithm>
#include <array>
#include <limits>
#include <random>

#include "tests/runtime/ops_testing.h"

namespace trefoil {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// What table 1 of Micikevicius et al. 2022 says a pattern stands for.
double Defined(DType format, int bits) {
  const bool e5m2 = format == DType::kFloat8E5M2;
  const int mantissa_bits = e5m2 ? 2 : 3, bias = e5m2 ? 15 : 7;
  const int mantissa = bits % (1 << mantissa_bits), exponent = bits % 128 >> mantissa_bits;
  const double sign = bits >= 128 ? -1 : 1;
  if (e5m2 && exponent == 31) return mantissa == 0 ? sign * kInfinity : kNaN;
  if (!e5m2 && exponent == 15 && mantissa == 7) return kNaN;
  const double fraction = static_cast<double>(mantissa) / (1 << mantissa_bits);
  return sign * (exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias));
}
double LargestOf(DType format) { return format == DType::kFloat8E5M2 ? 57344 : 448; }

// The pattern of the finite value nearest to x, of two the one with an even mantissa; saturating.
int Nearest(DType format, double x) {
  int best = 0;
  for (int bits = 0; bits < 128; ++bits) {
    const double value = Defined(format, bits);
    if (!std::isfinite(value)) break;
    const double closer = std::abs(std::abs(x) - Defined(format, best)) - std::abs(std::abs(x) - value);
    if (closer > 0 || (closer == 0 && bits % 2 == 0)) best = bits;
  }
  return std::signbit(x) ? best + 128 : best;
}

template <typename F>
class FormatTest : public testing::Test {};
using Formats = testing::Types<Float8E4M3, Float8E5M2>;
TYPED_TEST_SUITE(FormatTest, Formats);

TYPED_TEST(FormatTest, EveryPatternIsWhatItsDefinitionSays) {
  constexpr DType kFormat = kDTypeOf<TypeParam>;
  for (int bits = 0; bits < 256; ++bits) {
    TypeParam x;
    x.bits = static_cast<uint8_t>(bits);
    const double value = static_cast<float>(x), defined = Defined(kFormat, bits);
    if (std::isnan(defined)) {
      EXPECT_TRUE(std::isnan(value)) << bits;
      continue;
    }
    EXPECT_EQ(value, defined) << bits;
    EXPECT_EQ(std::signbit(value), bits >= 128) << bits;
    if (std::isfinite(defined)) {
      EXPECT_EQ(TypeParam(static_cast<float>(defined)).bits, bits);
    }
  }
}

TYPED_TEST(FormatTest, RoundsToNearestEvenAndSaturates) {
  constexpr DType kFormat = kDTypeOf<TypeParam>;
  const auto expect = [](float x, int bits) {
    EXPECT_EQ(int{TypeParam(x).bits}, bits) << std::hexfloat << x;
    EXPECT_EQ(int{TypeParam(-x).bits}, bits + 128) << std::hexfloat << -x;
  };
  for (int bits = 0; std::isfinite(Defined(kFormat, bits + 1)) && bits < 126; ++bits) {
    const auto middle = static_cast<float>((Defined(kFormat, bits) + Defined(kFormat, bits + 1)) / 2);
    expect(middle, bits % 2 == 0 ? bits : bits + 1);
    expect(std::nextafter(middle, 0.0f), bits);
    expect(std::nextafter(middle, kInfinity), bits + 1);
  }
  const auto largest = static_cast<float>(LargestOf(kFormat));
  const int largest_bits = kFormat == DType::kFloat8E5M2 ? 0x7b : 0x7e;
  for (const float x : {largest, std::nextafter(largest, kInfinity), 1.0625f * largest, 2 * largest, kInfinity}) {
    expect(x, largest_bits);
  }
  for (const float x : {1e-20f, std::numeric_limits<float>::denorm_min(), 0.0f}) expect(x, 0);
  EXPECT_TRUE(std::isnan(static_cast<float>(TypeParam(kNaN))));
  EXPECT_TRUE(std::isnan(static_cast<float>(TypeParam(-kNaN))));
  std::mt19937_64 engine(3);
  for (int i = 0; i < 20000; ++i) {
    const double exponent = std::uniform_real_distribution<double>(-22, 18)(engine);
    const auto x = static_cast<float>(std::exp2(exponent) * (i % 2 == 0 ? 1 : -1));
    EXPECT_EQ(int{TypeParam(x).bits}, Nearest(kFormat, x)) << std::hexfloat << x;
  }
}

Tensor PoisonedBytes(Device& device, DType format, const Shape& shape) {
  const Tensor x = device.Allocate(format, shape, Purpose::kActivations);
  const std::vector<uint8_t> nan(static_cast<size_t>(x.elements()), 0x7f);
  device.Upload(nan.data(), x);
  return x;
}
Tensor NewScale(Device& device) { return Poisoned(device, DType::kFloat32, {1}); }

// The least power of two, from 2^-126 on, with which `largest` fits.
double ScaleFor(DType format, double largest) {
  if (largest == 0) return 1;
  double scale = std::ldexp(1.0, -126);
  while (largest / scale > LargestOf(format)) scale *= 2;
  return scale;
}

constexpr DType kFormats[] = {DType::kFloat8E4M3, DType::kFloat8E5M2};

TEST_P(DTypes, ScaleIsTheLeastPowerOfTwo) {
  for (const DType format : kFormats) {
    for (const double largest : {448.0, 450.0, 224.0, 226.0, 1.0, 1.75, 1.765625, 57344.0, 57600.0, 28672.0, 3e-5,
                                 1e-38, 1e-40, 0x1p-126, 0x1.fep127, 0x1.cp120, 0x1.c2p120, 0.0}) {
      const auto results = RunWithThreads([&](Device& device) {
        const Tensor x = From(device, GetParam(), {2, 3}, {0, largest / 2, -largest, largest / 4, 0, 0});
        const Tensor scale = NewScale(device);
        Quantize(device, x, PoisonedBytes(device, format, {2, 3}), {}, scale);
        return std::vector<Tensor>{scale, x};
      });
      EXPECT_EQ(results[0][0], ScaleFor(format, std::abs(results[1][2]))) << Name(format) << " " << largest;
    }
  }
}

// Wherever it stands, and whatever is larger than it.
TEST_P(DTypes, WhatIsNotFiniteMakesTheScaleNaN) {
  for (const double bad : {double{kInfinity}, -double{kInfinity}, double{kNaN}}) {
    for (const int64_t at : {0, 7, 1000, 2078}) {
      const auto results = RunWithThreads([&](Device& device) {
        Values values(2079, 3.0);
        values[static_cast<size_t>(at)] = bad;
        const Tensor x = From(device, GetParam(), {27, 77}, values), scale = NewScale(device);
        Quantize(device, x, {}, PoisonedBytes(device, DType::kFloat8E5M2, {77, 27}), scale);
        return std::vector<Tensor>{scale};
      });
      EXPECT_TRUE(std::isnan(results[0][0])) << bad << " at " << at;
    }
  }
}

TEST_P(DTypes, QuantizeAndTranspose) {
  using Sizes = std::array<int64_t, 2>;
  for (const auto& [rows, columns] : {Sizes{5, 7}, {16, 16}, {64, 128}, {80, 144}, {130, 200}, {1, 300}, {300, 1},
                                      {32, 272}, {0, 4}, {4, 0}}) {
    for (const DType format : kFormats) {
      for (const auto& [plain, transposed] : {std::array<bool, 2>{true, true}, {true, false}, {false, true}}) {
        SCOPED_TRACE(testing::Message() << rows << " x " << columns << " to " << Name(format) << plain << transposed);
        Values reference, reference_transposed;
        double scale_reference = 0;
        const auto& [r, c, with_plain, with_transposed] = std::tie(rows, columns, plain, transposed);
        const auto results = RunWithThreads([&](Device& device) {
          // Values over the whole range of the format and below it.
          Values values = Get(device, Random(device, DType::kFloat32, {r, c}, 1, 8));
          for (double& value : values) value = std::exp2(value) * (value > 0 ? 1 : -1);
          const Tensor x = From(device, GetParam(), {r, c}, values), scale = NewScale(device);
          const Tensor out = with_plain ? PoisonedBytes(device, format, {r, c}) : Tensor();
          const Tensor out_transposed = with_transposed ? PoisonedBytes(device, format, {c, r}) : Tensor();
          if (scale_reference == 0) {
            values = Get(device, x);
            double largest = 0;
            for (const double value : values) largest = std::max(largest, std::abs(value));
            scale_reference = ScaleFor(format, largest);
            reference = reference_transposed = Values(values.size());
            for (size_t i = 0; i < values.size(); ++i) {
              reference[i] = Defined(format, Nearest(format, values[i] / scale_reference));
              reference_transposed[i % c * r + i / c] = reference[i];
            }
          }
          Quantize(device, x, out, out_transposed, scale);
          std::vector<Tensor> made = {scale};
          if (with_plain) made.push_back(out);
          if (with_transposed) made.push_back(out_transposed);
          return made;
        });
        EXPECT_EQ(results[0][0], scale_reference);
        if (plain) {
          EXPECT_EQ(results[1], reference);
        }
        if (transposed) {
          EXPECT_EQ(results.back(), reference_transposed);
        }
      }
    }
  }
}

// Tensors that start anywhere in memory.
TEST_P(DTypes, QuantizeOfATensorThatIsNotAligned) {
  const int64_t rows = 32, columns = 48, n = rows * columns;
  const DType format = DType::kFloat8E4M3;
  const auto results = RunWithThreads([&](Device& device) {
    const Tensor values = Random(device, GetParam(), {n}, 1), shifted = Poisoned(device, GetParam(), {n + 1});
    Cast(device, values, shifted.Range(1, {n}));
    const Tensor a = PoisonedBytes(device, format, {rows, columns}), b = PoisonedBytes(device, format, {columns, rows});
    const Tensor c = PoisonedBytes(device, format, {n + 1}), d = PoisonedBytes(device, format, {n + 1});
    Quantize(device, values.View({rows, columns}), a, b, NewScale(device));
    Quantize(device, shifted.Range(1, {rows, columns}), c.Range(1, a.shape()), d.Range(1, b.shape()), NewScale(device));
    return std::vector<Tensor>{a, c.Range(1, {n}), b, d.Range(1, {n})};
  });
  EXPECT_EQ(results[1], results[0]);
  EXPECT_EQ(results[3], results[2]);
}

// What makes layouts agree: with the scale of a slice, elements stand for what they stand for with the whole's.
TEST(Quantize, ElementsOfASliceRoundAsInTheWhole) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const int64_t rows = 64, columns = 32;
  Values values = Get(*device, Random(*device, DType::kFloat32, {rows, columns}, 1));
  for (int64_t i = 0; i < rows * columns; ++i) {
    values[static_cast<size_t>(i)] += values[static_cast<size_t>(i)] > 0 ? 0.05 : -0.05;  // no subnormal ones
    if (i < rows / 2 * columns) values[static_cast<size_t>(i)] *= 8;
  }
  const Tensor x = From(*device, DType::kFloat32, {rows, columns}, values);
  const auto decoded = [&](const Tensor& part) {
    const Tensor out = PoisonedBytes(*device, DType::kFloat8E4M3, part.shape()), scale = NewScale(*device);
    Quantize(*device, part, out, {}, scale);
    Values result = Get(*device, out);
    for (double& value : result) value *= Get(*device, scale)[0];
    return std::pair(result, Get(*device, scale)[0]);
  };
  const auto [whole, scale] = decoded(x);
  const auto [part, part_scale] = decoded(x.Rows(rows / 2, rows));
  EXPECT_LT(part_scale, scale);
  EXPECT_EQ(part, Values(whole.begin() + rows / 2 * columns, whole.end()));
}

struct Case {
  int64_t m, n, k;
  DType a, b, out;
  Accumulate accumulate;
  bool bias;
};

void Compare(const Case& c) {
  SCOPED_TRACE(testing::Message() << c.m << " " << c.n << " " << c.k << " " << Name(c.a) << " " << Name(c.b) << " into "
                                  << Name(c.out) << " accumulate " << static_cast<bool>(c.accumulate) << " bias "
                                  << c.bias);
  Values reference;
  const auto results = RunWithThreads([&](Device& device) {
    const auto quantized = [&](DType format, const Shape& shape, uint64_t seed, float deviation) {
      const Tensor x = Random(device, DType::kFloat32, shape, seed, deviation), scale = NewScale(device);
      const Tensor out = PoisonedBytes(device, format, shape);
      Quantize(device, x, out, {}, scale);
      return std::pair(out, scale);
    };
    const auto [a, a_scale] = quantized(c.a, {c.m, c.k}, 1, 0.01f);
    const auto [b, b_scale] = quantized(c.b, {c.n, c.k}, 2, 300);
    const Tensor bias = c.bias ? Random(device, DType::kBFloat16, {c.n}, 3) : Tensor();
    const bool add = c.accumulate == Accumulate::kYes;
    const Tensor out = add ? Random(device, c.out, {c.m, c.n}, 4) : Poisoned(device, c.out, {c.m, c.n});
    reference = add ? Get(device, out) : Values(static_cast<size_t>(c.m * c.n));
    const Values x = Get(device, a), y = Get(device, b), added = c.bias ? Get(device, bias) : Values(c.n);
    const double scale = Get(device, a_scale)[0] * Get(device, b_scale)[0];
    for (int64_t i = 0; i < c.m * c.n; ++i) {
      double sum = 0;
      for (int64_t l = 0; l < c.k; ++l) sum += x[i / c.n * c.k + l] * y[i % c.n * c.k + l];
      reference[i] += scale * sum + added[i % c.n];
    }
    MatmulFloat8(device, a, a_scale, b, b_scale, out, c.accumulate, bias);
    return std::vector<Tensor>{out};
  });
  ExpectClose(results[0], reference, OnGpu() && c.out == DType::kFloat32 ? 1e-5 : Tolerance(c.out));
}

TEST(MatmulFloat8, OfEveryKind) {
  constexpr DType k4 = DType::kFloat8E4M3, k5 = DType::kFloat8E5M2, kFloat = DType::kFloat32, kHalf = DType::kBFloat16;
  using Sizes = std::array<int64_t, 3>;
  for (const auto& [m, n, k] : {Sizes{5, 16, 32}, {64, 48, 96}, {1, 16, 16}, {33, 80, 272}, {0, 16, 16}, {4, 0, 16},
                                {4, 16, 0}}) {
    for (const auto& [a, b] : {std::array<DType, 2>{k4, k4}, {k5, k4}, {k4, k5}}) {
      for (const bool bias : {false, true}) {
        Compare({m, n, k, a, b, kHalf, Accumulate::kNo, bias});
        Compare({m, n, k, a, b, kFloat, Accumulate::kNo, bias});
        Compare({m, n, k, a, b, kFloat, Accumulate::kYes, bias});
      }
    }
  }
}

TEST(MatmulFloat8, ScaleThatIsNotANumberReachesEveryElement) {
  const std::unique_ptr<Device> device = NewTestDevice();
  Values values(16 * 16, 1.0);
  values[200] = kInfinity;
  const Tensor a = PoisonedBytes(*device, DType::kFloat8E4M3, {16, 16}), a_scale = NewScale(*device);
  Quantize(*device, From(*device, DType::kFloat32, {16, 16}, values), a, {}, a_scale);
  const Tensor b = PoisonedBytes(*device, DType::kFloat8E4M3, {16, 16}), b_scale = NewScale(*device);
  Quantize(*device, From(*device, DType::kFloat32, {16, 16}, Values(256, 0)), b, {}, b_scale);
  const Tensor out = From(*device, DType::kFloat32, {16, 16}, Values(256, 0));
  MatmulFloat8(*device, a, a_scale, b, b_scale, out, Accumulate::kYes);
  for (const double value : Get(*device, out)) EXPECT_TRUE(std::isnan(value));
}

TEST(Float8DeathTest, RefusesWrongTensors) {
  const std::unique_ptr<Device> device = NewNullDevice();
  const auto make = [&](DType dtype, Shape shape) { return device->Allocate(dtype, shape, Purpose::kActivations); };
  constexpr DType k4 = DType::kFloat8E4M3, k5 = DType::kFloat8E5M2, kFloat = DType::kFloat32;
  const Tensor x = make(kFloat, {16, 32}), scale = make(kFloat, {1}), out = make(kFloat, {16, 16});
  const Tensor a = make(k4, {16, 32}), b = make(k5, {16, 32});
  EXPECT_DEATH(Quantize(*device, x, {}, {}, scale), "out is undefined");
  EXPECT_DEATH(Quantize(*device, x, x, {}, scale), "out is float32, must be fp8");
  EXPECT_DEATH(Quantize(*device, x, a, b, scale), "out_transposed is float8_e5m2, must be float8_e4m3");
  EXPECT_DEATH(Quantize(*device, a, a, {}, scale), "x is float8_e4m3, must be float32 or bfloat16");
  EXPECT_DEATH(MatmulFloat8(*device, b, scale, b, scale, out), "a or b must be e4m3");
  EXPECT_DEATH(MatmulFloat8(*device, make(k4, {16, 8}), scale, make(k4, {16, 8}), scale, out), "multiples of 16");
  EXPECT_DEATH(MatmulFloat8(*device, a, scale, b, scale, make(kFloat, {16, 32})), "out is .16, 32., must be .16, 16.");
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
