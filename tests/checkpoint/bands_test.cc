#include "checkpoint/bands.h"

#include <gtest/gtest.h>

namespace trefoil {
namespace {

// All bands of a tensor together are its rows, and a box lies in those that have something of it.
void CheckBands(const Shape& shape, int64_t bands) {
  const Bands of_shape(shape, bands);
  EXPECT_LE(of_shape.count(), bands);
  int64_t rows = 0;
  for (int64_t band = 0; band < of_shape.count(); ++band) {
    const Box region = of_shape.Region(band);
    EXPECT_EQ(region.offset[0], rows);
    rows += region.extent[0];
    EXPECT_EQ(of_shape.First(region), band);
    EXPECT_EQ(of_shape.Last(region), band);
  }
  EXPECT_EQ(rows, shape[0]);
  EXPECT_EQ(of_shape.First(WholeOf(shape)), 0);
  EXPECT_EQ(of_shape.Last(WholeOf(shape)), of_shape.count() - 1);
}

TEST(Bands, DivideTheRows) {
  for (const int64_t rows : {1, 2, 7, 64, 1000}) {
    for (int64_t bands = 1; bands <= rows; ++bands) CheckBands({rows, 3}, bands);
  }
  const Bands scalar(Shape{}, 1);
  EXPECT_EQ(scalar.count(), 1);
  EXPECT_EQ(scalar.First({}), 0);
  EXPECT_EQ(scalar.Last({}), 0);
}

TEST(Bands, HaveSixteenSlicesOrMoreAndCutFew) {
  EXPECT_EQ(BandsFor({4096, 64}, {.slices = 1024, .rows = 4096}), 64);
  EXPECT_EQ(BandsFor({4096, 64}, {.slices = 16, .rows = 4096}), 1);
  EXPECT_EQ(BandsFor({4096, 1024}, {.slices = 1024, .rows = 1024 * 4096}), 1) << "of columns";
  EXPECT_EQ(BandsFor({4096, 1024}, {.slices = 1024, .rows = 64 * 4096}), 16) << "of 64 columns each";
  EXPECT_EQ(BandsFor({2, 1024}, {.slices = 1024, .rows = 1024}), 2) << "of parts of rows";
  EXPECT_EQ(BandsFor({}, {.slices = 1, .rows = 1}), 1);
}

}  // namespace
}  // namespace trefoil
