#include "tests/runtime/ops_testing.h"

namespace trefoil {
namespace {

struct Case {
  int64_t samples, tokens, columns, first;
  std::vector<int32_t> lengths;  // empty: all `tokens`
};
const Case kCases[] = {{3, 5, 7, 0, {}},        {2, 17, 64, 1, {}},         {4, 9, 40, 0, {9, 1, 0, 4}},
                       {4, 9, 33, 1, {9, 1, 0, 2}}, {2, 40, 1500, 1, {37, 12}}, {0, 5, 8, 0, {}},
                       {2, 3, 0, 0, {}},        {3, 1, 8, 1, {}}};

int64_t LengthOf(const Case& c, int64_t sample) { return c.lengths.empty() ? c.tokens : c.lengths[sample]; }

TEST_P(DTypes, MeanPool) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(testing::Message() << c.samples << " x " << c.tokens << " x " << c.columns << " from " << c.first);
    Values reference, d_reference;
    const auto results = RunWithThreads([&](Device& device) {
      const Tensor x = Random(device, GetParam(), {c.samples * c.tokens, c.columns}, 1);
      const Tensor dy = Random(device, GetParam(), {c.samples, c.columns}, 2);
      const Tensor lengths = c.lengths.empty() ? Tensor() : Ids(device, c.lengths);
      const Values in = Get(device, x), d = Get(device, dy);
      reference.assign(c.samples * c.columns, 0);
      d_reference.assign(in.size(), 0);
      for (int64_t b = 0; b < c.samples; ++b) {
        const auto count = static_cast<double>(LengthOf(c, b) - c.first);
        for (int64_t t = c.first; t < LengthOf(c, b); ++t) {
          for (int64_t j = 0; j < c.columns; ++j) {
            const int64_t at = (b * c.tokens + t) * c.columns + j;
            reference[b * c.columns + j] += in[at] / count;
            d_reference[at] = d[b * c.columns + j] / count;
          }
        }
      }
      const Tensor y = Poisoned(device, GetParam(), dy.shape()), dx = Poisoned(device, GetParam(), x.shape());
      MeanPool(device, x, c.tokens, lengths, c.first, y);
      MeanPoolBackward(device, dy, c.tokens, lengths, c.first, dx);
      return std::vector<Tensor>{y, dx};
    });
    ExpectClose(results[0], reference, Tolerance(GetParam()), "y");
    ExpectClose(results[1], d_reference, Tolerance(GetParam()), "dx");
  }
}

// Padding may hold anything.
TEST(MeanPool, RowsOutsideAreNotLookedAt) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const DType f = DType::kFloat32;
  const Tensor x = From(*device, f, {4, 2}, {NAN, NAN, 3, 5, 7, 1, NAN, NAN}), y = Poisoned(*device, f, {1, 2});
  MeanPool(*device, x, 4, Ids(*device, {3}), 1, y);
  EXPECT_EQ(Get(*device, y), Values({5, 3}));
}

TEST(MeanPool, BackwardIsTheSlope) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const DType f = DType::kFloat32;
  const Tensor x = Random(*device, f, {3 * 6, 8}, 1), dy = Random(*device, f, {3, 8}, 2);
  const Tensor y = Poisoned(*device, f, {3, 8}), dx = Poisoned(*device, f, x.shape());
  for (const Tensor& lengths : {Tensor(), Ids(*device, {6, 3, 5})}) {
    MeanPoolBackward(*device, dy, 6, lengths, 1, dx);
    ExpectGradient(
        *device, x,
        [&] {
          MeanPool(*device, x, 6, lengths, 1, y);
          return Dot(Get(*device, y), Get(*device, dy));
        },
        Get(*device, dx), "dx");
  }
}

TEST(MeanPoolDeathTest, RefusesWrongShapes) {
  const std::unique_ptr<Device> device = NewNullDevice();
  const auto make = [&](DType dtype, Shape shape) { return device->Allocate(dtype, shape, Purpose::kActivations); };
  const DType f = DType::kFloat32;
  EXPECT_DEATH(MeanPool(*device, make(f, {7, 2}), 3, {}, 0, make(f, {2, 2})), "x is .7, 2., must be .6, 2.");
  EXPECT_DEATH(MeanPool(*device, make(f, {6, 2}), 3, make(DType::kInt32, {3}), 0, make(f, {2, 2})),
               "lengths is .3., must be .2.");
  EXPECT_DEATH(MeanPool(*device, make(f, {6, 2}), 3, {}, 4, make(f, {2, 2})), "first");
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
