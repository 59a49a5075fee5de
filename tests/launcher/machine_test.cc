#include "launcher/machine.h"

#include <gtest/gtest.h>

#include <memory>

#include "launcher/config.h"
#include "runtime/vendor_peak.h"

namespace trefoil {
namespace {

// Rank 0 has a host of its own, and the others have less.
TEST(LeastShareTest, IsThatOfTheHostWithMostRanks) {
  RunRanksAsThreads(
      4,
      [](World& world) {
        const std::unique_ptr<Device> device = OpenCpu(RuntimeConfig(), /*ranks_on_host=*/4);
        const auto available = static_cast<double>(device->available_bytes());
        ASSERT_GT(available, 0);
        // What is available changes meanwhile.
        EXPECT_NEAR(LeastShare(*device, world) / (available / 3), 1, 0.3) << "rank " << world.rank();
      },
      {.hosts = {"a", "b", "b", "b"}});
}

// What plans and MFU take for a GPU's peak is one figure.
TEST(VendorPeakTest, IsThatOfTheClustersFiles) {
  int peaks = 0;
  for (const char* name : {"dgx_a100", "dgx_h100", "selene_a100"}) {
    const auto cluster = ReadCluster(FileSystem::Posix(), name);
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    for (const Peak& peak : cluster->peaks()) {
      for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat8E4M3, DType::kFloat8E5M2}) {
        if (peak.dtype() != Name(dtype)) continue;
        EXPECT_DOUBLE_EQ(VendorPeakFlops(cluster->device(), dtype), 1e12 * peak.tflops()) << name << " " << Name(dtype);
        ++peaks;
      }
    }
  }
  EXPECT_EQ(peaks, 8);
}

// The sum of the ranks' GPUs, unless one is not known: CPUs never are.
TEST(VendorPeakTest, IsUnknownForCpus) {
  RunRanksAsThreads(2, [](World& world) {
    const std::unique_ptr<Device> device = OpenCpu(RuntimeConfig(), /*ranks_on_host=*/2);
    EXPECT_EQ(VendorPeak(*device, TrainingConfig::BF16, world.all()), 0);
  });
}

}  // namespace
}  // namespace trefoil
