#include "parallel/sharded_tensor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace trefoil {
namespace {

// The global indices of a box's elements in row-major order, one index tuple per element.
std::vector<std::vector<int64_t>> Elements(const Box& box) {
  std::vector<std::vector<int64_t>> elements = {{}};
  for (int dim = 0; dim < box.extent.rank(); ++dim) {
    std::vector<std::vector<int64_t>> longer;
    for (const auto& prefix : elements) {
      for (int64_t i = 0; i < box.extent[dim]; ++i) {
        longer.push_back(prefix);
        longer.back().push_back(box.offset[dim] + i);
      }
    }
    elements = std::move(longer);
  }
  return elements;
}

TEST(Flatten, ExampleOfTheHeader) {
  const Box box{{8, 0}, {4, 3}};
  const std::vector<Box> expected = {{{8, 2}, {1, 1}}, {{9, 0}, {2, 3}}, {{11, 0}, {1, 1}}};
  EXPECT_EQ(Flatten(box, 2, 10), expected);
}

TEST(Flatten, WholeAndNothing) {
  const Box box{{1, 2, 3}, {2, 3, 4}};
  EXPECT_EQ(Flatten(box, 0, 24), std::vector<Box>{box});
  EXPECT_TRUE(Flatten(box, 7, 7).empty());
  EXPECT_TRUE(Flatten({{0, 0}, {0, 5}}, 0, 0).empty());
  EXPECT_EQ(Flatten({{}, {}}, 0, 1).size(), 1u);
}

TEST(Flatten, AgreesWithEnumeration) {
  std::mt19937 random(1);
  auto draw = [&](int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random); };
  size_t most[5] = {};
  for (int trial = 0; trial < 4000; ++trial) {
    const int dims = 1 + trial % 4;
    Box box;
    for (int dim = 0; dim < dims; ++dim) {
      box.offset.push_back(draw(0, 9));
      box.extent.push_back(draw(1, 5));
    }
    const int64_t begin = draw(0, box.extent.elements()), end = draw(begin, box.extent.elements());
    const std::vector<Box> boxes = Flatten(box, begin, end);
    std::vector<std::vector<int64_t>> found;
    for (const Box& part : boxes) {
      EXPECT_GT(part.extent.elements(), 0);
      for (auto& element : Elements(part)) found.push_back(std::move(element));
    }
    const auto all = Elements(box);
    EXPECT_EQ(found, std::vector<std::vector<int64_t>>(all.begin() + begin, all.begin() + end))
        << box.extent << " [" << begin << ", " << end << ")";
    most[dims] = std::max(most[dims], boxes.size());
  }
  for (int dims = 1; dims <= 4; ++dims) EXPECT_EQ(most[dims], 2u * dims - 1);
}

TEST(ShardedTensor, Bytes) {
  ShardedTensor slice{.name = "w", .dtype = DType::kBFloat16, .global = {8, 4}, .box = {{2, 0}, {3, 4}}};
  EXPECT_EQ(slice.bytes(), 24);
}

}  // namespace
}  // namespace trefoil
