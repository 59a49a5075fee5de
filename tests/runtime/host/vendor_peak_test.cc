#include "runtime/host/vendor_peak.h"

#include <gtest/gtest.h>

namespace trefoil {
namespace {

// By the names that drivers give.
TEST(VendorPeakTest, KnowsGpusByTheirNames) {
  const auto bf16 = [](const char* model) { return 1e-12 * VendorPeakFlops(model, DType::kBFloat16); };
  EXPECT_DOUBLE_EQ(bf16("NVIDIA A100-SXM4-80GB"), 312);
  EXPECT_DOUBLE_EQ(bf16("NVIDIA A100 80GB PCIe"), 312);
  EXPECT_DOUBLE_EQ(bf16("NVIDIA H100 80GB HBM3"), 989.4);
  EXPECT_DOUBLE_EQ(bf16("NVIDIA H100 PCIe"), 756);
  EXPECT_DOUBLE_EQ(bf16("NVIDIA H100 NVL"), 835.5);
  EXPECT_DOUBLE_EQ(bf16("NVIDIA H200"), 989.4);
  EXPECT_DOUBLE_EQ(bf16("NVIDIA GH200 480GB"), 989.4);
  EXPECT_DOUBLE_EQ(bf16("NVIDIA B200"), 2250);
  EXPECT_DOUBLE_EQ(bf16("NVIDIA L40S"), 362.05);
  EXPECT_DOUBLE_EQ(bf16("NVIDIA GeForce RTX 4090"), 165.2);
  for (const char* unknown : {"", "emulated on the CPU", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA A1000",
                              "NVIDIA L40", "NVIDIA GeForce RTX 4090 Laptop GPU",
                              "NVIDIA GeForce RTX 4090 D", "NVIDIA H800"}) {
    EXPECT_EQ(bf16(unknown), 0) << unknown;
  }
}

TEST(VendorPeakTest, IsThatOfTheDType) {
  EXPECT_DOUBLE_EQ(VendorPeakFlops("NVIDIA H100 80GB HBM3", DType::kFloat32), 67e12);
  EXPECT_DOUBLE_EQ(VendorPeakFlops("NVIDIA H100 80GB HBM3", DType::kFloat8E4M3), 1978.9e12);
  EXPECT_DOUBLE_EQ(VendorPeakFlops("NVIDIA H100 80GB HBM3", DType::kFloat8E5M2), 1978.9e12);
  EXPECT_EQ(VendorPeakFlops("NVIDIA A100-SXM4-80GB", DType::kFloat8E4M3), 0) << "it has none";
}

}  // namespace
}  // namespace trefoil
