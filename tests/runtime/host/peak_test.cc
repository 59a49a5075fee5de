#include "runtime/host/peak.h"

#include <gtest/gtest.h>

#include "runtime/host/cpu_features.h"

namespace trefoil {
namespace {

// Bounds far outside of what a thread of any CPU that runs this reaches, on either side.
TEST(Peak, FlopsOfOneThread) {
  const double peak = MeasurePeakFlops(DType::kFloat32, 1);
  EXPECT_GT(peak, 1e9);
  EXPECT_LT(peak, 1e12);
  const double bfloat16 = MeasurePeakFlops(DType::kBFloat16, 1);
  EXPECT_GT(bfloat16, 1e9);
  EXPECT_LT(bfloat16, 2e13);
  if (CpuHasAmxBFloat16()) {
    EXPECT_GT(bfloat16, 2 * peak);
  }
}

TEST(Peak, FlopsOfTwoThreads) { EXPECT_GT(MeasurePeakFlops(DType::kFloat32, 2), 1e9); }

TEST(Peak, EachTryIsAddedUp) {
  int calls = 0;
  const auto together = [&](double rate) {
    ++calls;
    return rate + 1e15;  // another rank
  };
  EXPECT_GT(MeasurePeakFlops(DType::kFloat32, 1, together), 1e15);
  EXPECT_GT(calls, 2);
}

TEST(Peak, MemoryBandwidth) {
  const double bandwidth = MeasureMemoryBandwidth(1);
  EXPECT_GT(bandwidth, 1e8);
  EXPECT_LT(bandwidth, 1e12);
}

}  // namespace
}  // namespace trefoil
