#include "runtime/number_text.h"

#include <gtest/gtest.h>

namespace trefoil {
namespace {

TEST(NumberTextTest, CountsToThreeDigits) {
  EXPECT_EQ(ShortCount(0), "0");
  EXPECT_EQ(ShortCount(512), "512");
  EXPECT_EQ(ShortCount(999), "999");
  EXPECT_EQ(ShortCount(999.7), "1.00K");
  EXPECT_EQ(ShortCount(1234), "1.23K");
  EXPECT_EQ(ShortCount(124439808), "124M");
  EXPECT_EQ(ShortCount(999'700'000), "1.00B");
  EXPECT_EQ(ShortCount(1.008e12), "1.01T");
}

TEST(NumberTextTest, BytesInPowersOf1024) {
  EXPECT_EQ(BytesText(640), "640 B");
  EXPECT_EQ(BytesText(1536), "1.50 KiB");
  EXPECT_EQ(BytesText(int64_t{200} << 30), "200 GiB");
}

TEST(NumberTextTest, FlopsInPowersOf1000) {
  EXPECT_EQ(FlopsText(42.3e9), "42.3 GFLOP");
  EXPECT_EQ(FlopsText(7), "7 FLOP");
}

TEST(NumberTextTest, CommasEachThreeDigits) {
  EXPECT_EQ(WithCommas(7), "7");
  EXPECT_EQ(WithCommas(999), "999");
  EXPECT_EQ(WithCommas(1000), "1,000");
  EXPECT_EQ(WithCommas(1234567), "1,234,567");
}

}  // namespace
}  // namespace trefoil
