#include "runtime/host/product_speeds.h"

#include <gtest/gtest.h>

#include "tests/runtime/ops_testing.h"

namespace trefoil {
namespace {

// FLOP/s in tera: a Xeon whose bf16 dot products are slower than its float32, one with AMX, a CPU with neither.
constexpr ProductSpeeds kSlowDotProducts = {.float32 = 0.342, .bf16_native = 0.172, .bf16_float32 = 0.340};
constexpr ProductSpeeds kTiles = {.float32 = 0.14, .bf16_native = 0.32, .bf16_float32 = 0.14};
constexpr ProductSpeeds kNone = {.float32 = 0.072, .bf16_native = 0, .bf16_float32 = 0.077};

TEST(ProductSpeeds, TheFasterInstructionsMultiply) {
  EXPECT_EQ(FasterBf16Products(kSlowDotProducts), Bf16Products::kFloat32);
  EXPECT_EQ(FasterBf16Products(kTiles), Bf16Products::kNative);
  EXPECT_EQ(FasterBf16Products(kNone), Bf16Products::kFloat32);
}

TEST(ProductSpeeds, Bf16MustBeClearlyFaster) {
  EXPECT_FALSE(Bf16Pays(kSlowDotProducts));
  EXPECT_TRUE(Bf16Pays(kTiles));
  EXPECT_FALSE(Bf16Pays(kNone));
}

// Bounds far outside of what a thread of any CPU that runs this reaches, on either side.
TEST(ProductSpeeds, AreMeasured) {
  const ProductSpeeds speeds = MeasureProductSpeeds();
  for (const double speed : {speeds.float32, speeds.bf16_float32}) {
    EXPECT_GT(speed, 1e8);
    EXPECT_LT(speed, 1e12);
  }
  EXPECT_EQ(speeds.bf16_native > 0, CpuHasBFloat16());
  EXPECT_LT(speeds.bf16_native, 2e13);
}

// What kFloat32 says it does, to the bit.
TEST(ProductSpeeds, ByFloat32AreTheProductsOfTheConverted) {
  const std::unique_ptr<Device> device = NewCpuDevice(2, Bf16Products::kFloat32);
  const Tensor a = Random(*device, DType::kBFloat16, {70, 300}, 1), b = Random(*device, DType::kBFloat16, {90, 300}, 2);
  const Tensor out = Poisoned(*device, DType::kBFloat16, {70, 90}), expected = Poisoned(*device, DType::kBFloat16, {70, 90});
  Matmul(*device, a, Transpose::kNo, b, Transpose::kYes, out);
  const auto wide = [&](const Tensor& x) {
    const Tensor converted = Poisoned(*device, DType::kFloat32, x.shape());
    Cast(*device, x, converted);
    return converted;
  };
  const Tensor product = Poisoned(*device, DType::kFloat32, {70, 90});
  Matmul(*device, wide(a), Transpose::kNo, wide(b), Transpose::kYes, product);
  Cast(*device, product, expected);
  EXPECT_EQ(Get(*device, out), Get(*device, expected));
}

// Else the option would change nothing. Sums of many terms, whose order shows in float32 outputs.
TEST(ProductSpeeds, BothWaysAreReallyTaken) {
  if (!CpuHasBFloat16()) GTEST_SKIP() << "this CPU has no bf16 instructions";
  const auto multiply = [](Bf16Products products) {
    const std::unique_ptr<Device> device = NewCpuDevice(1, products);
    const Tensor a = Random(*device, DType::kBFloat16, {64, 4096}, 1), b = Random(*device, DType::kBFloat16, {64, 4096}, 2);
    const Tensor out = Poisoned(*device, DType::kFloat32, {64, 64});
    Matmul(*device, a, Transpose::kNo, b, Transpose::kYes, out);
    return Get(*device, out);
  };
  EXPECT_NE(multiply(Bf16Products::kNative), multiply(Bf16Products::kFloat32));
}

}  // namespace
}  // namespace trefoil
