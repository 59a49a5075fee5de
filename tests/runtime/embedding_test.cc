#include "tests/runtime/ops_testing.h"

namespace trefoil {
namespace {

struct Case {
  int64_t count, rows, columns, first_row;
};
// ids are drawn from [0, 40): some are outside every part, on both sides.
const Case kCases[] = {{50, 40, 7, 0}, {64, 10, 33, 20}, {1, 5, 130, 0}, {0, 5, 4, 0}, {30, 0, 8, 3}, {300, 3, 100, 1}};

TEST_P(DTypes, Embedding) {
  for (const Case& c : kCases) {
    for (const Accumulate accumulate : {Accumulate::kNo, Accumulate::kYes}) {
      SCOPED_TRACE(testing::Message() << c.count << " ids, " << c.rows << " rows from " << c.first_row);
      Values reference;
      const auto results = RunWithThreads([&](Device& device) {
        const Tensor ids = RandomIds(device, c.count, 1, 0, 40),
                     table = Random(device, GetParam(), {c.rows, c.columns}, 2);
        const bool add = accumulate == Accumulate::kYes;
        const Tensor y = add ? Random(device, GetParam(), {c.count, c.columns}, 3)
                             : Poisoned(device, GetParam(), {c.count, c.columns});
        const Values id = Get(device, ids), rows = Get(device, table);
        reference = add ? Get(device, y) : Values(c.count * c.columns);
        for (int64_t i = 0; i < c.count; ++i) {
          const auto row = static_cast<int64_t>(id[i]) - c.first_row;
          if (row < 0 || row >= c.rows) continue;
          for (int64_t j = 0; j < c.columns; ++j) reference[i * c.columns + j] += rows[row * c.columns + j];
        }
        Embedding(device, ids, table, c.first_row, y, accumulate);
        return std::vector<Tensor>{y};
      });
      ExpectClose(results[0], reference, accumulate == Accumulate::kNo ? 1e-12 : Tolerance(GetParam()), "y");
    }
  }
}

TEST_P(DTypes, EmbeddingBackward) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(testing::Message() << c.count << " ids, " << c.rows << " rows from " << c.first_row);
    Values reference;
    const auto results = RunWithThreads([&](Device& device) {
      const Tensor ids = RandomIds(device, c.count, 1, 0, 40), dy = Random(device, GetParam(), {c.count, c.columns}, 2);
      const Tensor d_table = Random(device, DType::kFloat32, {c.rows, c.columns}, 3);
      const Values id = Get(device, ids), d = Get(device, dy);
      reference = Get(device, d_table);
      for (int64_t i = 0; i < c.count; ++i) {
        const auto row = static_cast<int64_t>(id[i]) - c.first_row;
        if (row < 0 || row >= c.rows) continue;
        for (int64_t j = 0; j < c.columns; ++j) reference[row * c.columns + j] += d[i * c.columns + j];
      }
      EmbeddingBackward(device, ids, dy, c.first_row, d_table);
      return std::vector<Tensor>{d_table};
    });
    ExpectClose(results[0], reference, 3e-6, "d_table");
  }
}

// Added up row by row in order of i: exactly what a plain loop in float gives.
TEST(Embedding, BackwardAddsInOrder) {
  const std::unique_ptr<Device> device = NewTestDevice(2);
  const int64_t count = 500, columns = 70;
  const Tensor ids = RandomIds(*device, count, 1, 0, 3), dy = Random(*device, DType::kFloat32, {count, columns}, 2);
  const Tensor d_table = From(*device, DType::kFloat32, {3, columns}, Values(3 * columns, 0));
  const Values id = Get(*device, ids), d = Get(*device, dy);
  std::vector<float> sums(3 * columns);
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t j = 0; j < columns; ++j)
      sums[static_cast<int64_t>(id[i]) * columns + j] += static_cast<float>(d[i * columns + j]);
  }
  EmbeddingBackward(*device, ids, dy, 0, d_table);
  EXPECT_EQ(Get(*device, d_table), Values(sums.begin(), sums.end()));
}

TEST(Embedding, BackwardIsTheSlope) {
  const std::unique_ptr<Device> device = NewTestDevice();
  const DType f = DType::kFloat32;
  const Tensor ids = RandomIds(*device, 30, 1, 0, 12), table = Random(*device, f, {8, 9}, 2);
  const Tensor y = Poisoned(*device, f, {30, 9}), dy = Random(*device, f, {30, 9}, 3);
  const Tensor d_table = From(*device, f, {8, 9}, Values(72, 0));
  EmbeddingBackward(*device, ids, dy, 2, d_table);
  ExpectGradient(
      *device, table,
      [&] {
        Embedding(*device, ids, table, 2, y);
        return Dot(Get(*device, y), Get(*device, dy));
      },
      Get(*device, d_table), "d_table");
}

INSTANTIATE_DTYPES();

}  // namespace
}  // namespace trefoil
