#include "launcher/machine.h"

#include <gtest/gtest.h>

#include <memory>

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

}  // namespace
}  // namespace trefoil
