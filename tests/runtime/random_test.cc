#include "runtime/random.h"

#include <map>

#include "tests/runtime/ops_testing.h"

namespace trefoil {
namespace {

// From the authors' kat_vectors (Random123): counter and key as 32-bit words, lowest first.
TEST(Random, PhiloxKnownAnswers) {
  EXPECT_EQ(Philox(0, 0, 0), (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox(~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}),
            (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox(0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, KeysDiffer) {
  std::map<uint64_t, int> keys;
  for (const uint64_t seed : {0, 1, 2}) {
    for (const char* name : {"", "a", "b", "ab", "blocks.1.weight", "blocks.2.weight"}) ++keys[RandomKey(seed, name)];
  }
  EXPECT_EQ(keys.size(), 18u);
}

TEST(Random, Moments) {
  constexpr int kCount = 400000;
  double uniform[3] = {}, normal[5] = {}, product = 0, last = 0;
  for (int i = 0; i < kCount; ++i) {
    const double u = Uniform(42, static_cast<uint64_t>(i)), x = Normal(42, static_cast<uint64_t>(i));
    ASSERT_TRUE(u >= 0 && u < 1);
    for (int k = 1; k <= 2; ++k) uniform[k] += std::pow(u, k) / kCount;
    for (int k = 1; k <= 4; ++k) normal[k] += std::pow(x, k) / kCount;
    product += x * last / kCount;
    last = x;
  }
  const double sigma = 1 / std::sqrt(static_cast<double>(kCount));  // limits at 4 standard errors
  EXPECT_NEAR(uniform[1], 0.5, 4 * 0.289 * sigma);
  EXPECT_NEAR(uniform[2], 1.0 / 3, 4 * 0.298 * sigma);
  EXPECT_NEAR(normal[1], 0, 4 * sigma);
  EXPECT_NEAR(normal[2], 1, 4 * 1.414 * sigma);
  EXPECT_NEAR(normal[3], 0, 4 * 3.88 * sigma);
  EXPECT_NEAR(normal[4], 3, 4 * 9.8 * sigma);
  EXPECT_NEAR(product, 0, 4 * sigma);
}

TEST(Random, FillNormalIsTheFunctionOfTheElement) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const Tensor x = Poisoned(*device, DType::kFloat32, {100, 211});
  FillNormal(*device, x, {100, 211}, {0, 0}, 9, 0.02f);
  const Values values = Get(*device, x);
  // The GPU's logarithm, cosine and sine are within 2 units in the last place, not the host's to the bit.
  const double tolerance = OnGpu() ? 1e-6 : 1e-7;
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_NEAR(values[i], 0.02f * Normal(9, i), tolerance * std::abs(values[i])) << i;
  }
}

// Element of the box at `offset`, as the index in the whole tensor.
int64_t GlobalIndex(int64_t i, const Shape& box, const Shape& offset, const Shape& global) {
  int64_t index = 0, stride = 1;
  for (int dim = box.rank() - 1; dim >= 0; --dim) {
    index += (offset[dim] + i % box[dim]) * stride;
    i /= box[dim];
    stride *= global[dim];
  }
  return index;
}

TEST(Random, FillNormalOfASliceIsTheSliceOfTheWhole) {
  struct Case {
    Shape global, offset, box;
  };
  for (const Case& c : {Case{{24, 10}, {5, 0}, {7, 10}},
                        {{24, 10}, {0, 3}, {24, 5}},
                        {{24, 10}, {3, 9}, {2, 1}},
                        {{4, 5, 6}, {1, 2, 3}, {3, 2, 3}},
                        {{9000}, {101}, {8801}},
                        {{}, {}, {}},
                        {{3, 4}, {1, 1}, {0, 2}},
                        {{2, 3, 4, 5}, {1, 0, 2, 1}, {1, 3, 2, 3}}}) {
    SCOPED_TRACE(testing::Message() << c.box << " at " << c.offset << " of " << c.global);
    Values whole;
    const auto results = RunWithThreads([&](Device& device) {
      const Tensor all = Poisoned(device, DType::kFloat32, c.global), x = Poisoned(device, DType::kFloat32, c.box);
      FillNormal(device, all, c.global, Shape(c.global) == Shape{} ? Shape{} : [&] {
        Shape zero = c.global;
        for (int i = 0; i < zero.rank(); ++i) zero[i] = 0;
        return zero;
      }(), 3, 1.5f);
      FillNormal(device, x, c.global, c.offset, 3, 1.5f);
      whole = Get(device, all);
      return std::vector<Tensor>{all, x};
    });
    for (size_t i = 0; i < results[1].size(); ++i) {
      ASSERT_EQ(results[1][i], whole[GlobalIndex(static_cast<int64_t>(i), c.box, c.offset, c.global)]) << i;
    }
  }
}

TEST_P(DTypes, Dropout) {
  const DropoutMask mask = {.probability = 0.3f, .key = 11, .first_row = 5, .global_columns = 1030};
  for (const bool in_place : {false, true}) {
    Values reference;
    int64_t dropped = 0;
    const auto results = RunWithThreads([&](Device& device) {
      const Tensor x = Random(device, GetParam(), {77, 1030}, 1);
      reference = Get(device, x);
      dropped = 0;
      for (size_t i = 0; i < reference.size(); ++i) {
        const bool drop = Uniform(11, 5 * 1030 + i) < 0.3f;
        reference[i] *= drop ? 0 : 1 / 0.7;
        dropped += drop;
      }
      const Tensor y = in_place ? x : Poisoned(device, GetParam(), {77, 1030});
      Dropout(device, x, mask, y);
      return std::vector<Tensor>{y};
    });
    ExpectClose(results[0], reference, Tolerance(GetParam()));
    EXPECT_NEAR(static_cast<double>(dropped) / static_cast<double>(reference.size()), 0.3, 0.01);
  }
}

// Each rank has some tokens of every sample, and of their rows a part.
TEST_P(DTypes, DropoutOfSomeTokens) {
  constexpr int64_t kSamples = 3, kLength = 20;
  const TokenRanges tokens = {{2, 3}, {5, 1}, {11, 4}};
  for (const int64_t columns : {1, 37, 64}) {
    for (const int64_t first : {0, 5}) {
      for (const int64_t together : {int64_t{0}, kLength}) {
        SCOPED_TRACE(testing::Message() << columns << " columns from row " << first << ", " << together << " together");
        const DropoutMask mask = {.probability = 0.4f,
                                  .key = 11,
                                  .first_row = 7 * tokens.tokens() + first,
                                  .global_columns = columns,
                                  .rows_together = together,
                                  .tokens = tokens,
                                  .length = kLength};
        Values reference;
        const auto results = RunWithThreads([&](Device& device) {
          const int64_t rows = kSamples * tokens.tokens();
          const Tensor x = Random(device, GetParam(), {rows, columns}, 1).Rows(first, rows);
          reference = Get(device, x);
          for (size_t i = 0; i < reference.size(); ++i) {
            const int64_t row = first + static_cast<int64_t>(i) / columns;
            const int64_t position = std::vector<int64_t>{2, 3, 4, 5, 11, 12, 13, 14}[static_cast<size_t>(row % 8)];
            const int64_t global = (7 + row / 8) * kLength + position;
            const int64_t element = together > 0 ? 7 + row / 8 : global * columns + static_cast<int64_t>(i) % columns;
            reference[i] *= Uniform(11, static_cast<uint64_t>(element)) < 0.4f ? 0 : 1 / 0.6;
          }
          const Tensor y = Poisoned(device, GetParam(), x.shape());
          Dropout(device, x, mask, y);
          return std::vector<Tensor>{y};
        });
        ExpectClose(results[0], reference, Tolerance(GetParam()));
      }
    }
  }
}

// Whatever rows a rank has.
TEST_P(DTypes, DropoutOfRowsTogether) {
  constexpr int64_t kRows = 90, kTogether = 7;
  for (const int64_t columns : {1, 37, 64}) {
    for (const int64_t first : {0, 5, 42}) {
      for (const bool in_place : {false, true}) {
        SCOPED_TRACE(testing::Message() << columns << " columns from row " << first);
        const DropoutMask mask = {.probability = 0.4f, .key = 11, .first_row = first, .rows_together = kTogether};
        Values reference;
        int64_t dropped = 0;
        const auto results = RunWithThreads([&](Device& device) {
          const Tensor x = Random(device, GetParam(), {kRows, columns}, 1).Rows(first, kRows);
          reference = Get(device, x);
          dropped = 0;
          for (size_t i = 0; i < reference.size(); ++i) {
            const bool drop = Uniform(11, (first + i / columns) / kTogether) < 0.4f;
            reference[i] *= drop ? 0 : 1 / 0.6;
            dropped += drop;
          }
          const Tensor y = in_place ? x : Poisoned(device, GetParam(), x.shape());
          Dropout(device, x, mask, y);
          return std::vector<Tensor>{y};
        });
        ExpectClose(results[0], reference, Tolerance(GetParam()));
        EXPECT_GT(dropped, 0);
        EXPECT_LT(dropped, static_cast<int64_t>(reference.size()));
      }
    }
  }
}

// A dropped row is 0 whatever it was.
TEST_P(DTypes, DropoutOfRowsTogetherIgnoresWhatItDrops) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const Tensor x = Poisoned(*device, GetParam(), {40, 8});
  Dropout(*device, x, {.probability = 0.5f, .key = 3, .rows_together = 2}, x);
  const Values values = Get(*device, x);
  for (size_t i = 0; i < values.size(); ++i) {
    const bool drop = Uniform(3, i / 8 / 2) < 0.5f;
    EXPECT_TRUE(drop ? values[i] == 0 : std::isnan(values[i])) << i;
  }
}

TEST_P(DTypes, DropoutOfNothing) {
  const std::unique_ptr<Device> device = NewTestDevice(2);
  const Tensor x = Random(*device, GetParam(), {77, 1030}, 1), y = Poisoned(*device, GetParam(), {77, 1030});
  Dropout(*device, x, {}, y);
  EXPECT_EQ(Bits(*device, x), Bits(*device, y));
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
