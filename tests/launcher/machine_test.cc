#include "launcher/cluster/machine.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>

#include "launcher/config/config.h"
#include "runtime/devices/cuda.h"
#include "runtime/host/vendor_peak.h"
#include "runtime/ops.h"

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

// On the emulated GPUs (tests/cuda_emulation).
TEST(OpenMachineTest, GivesEachRankAGpuOfItsOwn) {
  if (!CudaUuids().ok()) GTEST_SKIP() << "no GPU";
  if (std::getenv("TREFOIL_TEST_DEVICE") == nullptr) GTEST_SKIP() << "GPUs of another kind";
  RunConfig config;
  config.mutable_runtime()->set_device(RuntimeConfig::CUDA);
  config.mutable_runtime()->set_messages(RuntimeConfig::HOST);
  const auto open = [&] {
    std::mutex mutex;
    std::map<int, std::string> opened;  // by rank: the device or the error
    RunRanksAsThreads(2, [&](World& world) {
      const auto machine = OpenMachine(config, world);
      std::lock_guard lock(mutex);
      opened[world.rank()] = machine.ok() ? (*machine)->device->name() : std::string(machine.status().message());
    });
    return opened;
  };
  setenv("TREFOIL_EMULATED_GPUS", "2", 1);
  EXPECT_EQ(open(), (std::map<int, std::string>{{0, "cuda:0"}, {1, "cuda:1"}}));
  // Both see this one only, as their number 0.
  setenv("CUDA_VISIBLE_DEVICES", "1", 1);
  EXPECT_EQ(*CudaUuids(), std::vector<std::string>{"GPU-00000000-0000-0000-0000-000000000001"});
  EXPECT_NE(open()[0].find("ranks 0 and 1 would both hold GPU-00000000-0000-0000-0000-000000000001"), std::string::npos);
  config.mutable_runtime()->set_allow_shared_device(true);
  EXPECT_EQ(open(), (std::map<int, std::string>{{0, "cuda:0"}, {1, "cuda:0"}}));
}

// On a device that takes what a GPU takes: of the 400 MB that are multiplied only the workspace of products stays, which
// training takes as well.
TEST(MeasureTest, GivesBackTheGpusMemory) {
  RunRanksAsThreads(1, [](World& world) {
    const auto gpu = [] { return NewNullDevice({.stands_for = NullDeviceOptions::StandsFor::kCuda}); };
    const std::unique_ptr<Device> measured = gpu(), other = gpu();
    const Tensor kept = measured->Allocate(DType::kFloat32, {16}, Purpose::kWeights);
    EXPECT_GT(MeasurePeak(*measured, DType::kBFloat16, world.all()), 0);
    EXPECT_GT(MeasureBandwidth(*measured, world.all()), 0);

    const Tensor x = other->Allocate(DType::kFloat32, {4, 4}, Purpose::kWeights);
    Matmul(*other, x, Transpose::kNo, x, Transpose::kNo, x);
    EXPECT_EQ(measured->memory().reserved, other->memory().reserved);
    EXPECT_EQ(measured->memory().peak_total, kept.bytes());
    EXPECT_EQ(measured->memory().peak[static_cast<size_t>(Purpose::kWorkspace)], 0);
  });
}

}  // namespace
}  // namespace trefoil
