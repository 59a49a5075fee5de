#include "tests/runtime/test_device.h"

#include <glog/logging.h>

#include <cstdlib>
#include <string_view>

#include "runtime/device_cuda.h"

namespace trefoil {

bool OnGpu() {
  const char* name = std::getenv("TREFOIL_TEST_DEVICE");
  if (name == nullptr || std::string_view(name) == "cpu") return false;
  CHECK_EQ(std::string_view(name), "cuda") << "TREFOIL_TEST_DEVICE must be cpu or cuda";
  return true;
}

std::unique_ptr<Device> NewTestDevice(int cpu_threads) {
  if (!OnGpu()) return NewCpuDevice(cpu_threads);
  auto device = NewCudaDevice(0);
  CHECK(device.ok()) << device.status();
  return *std::move(device);
}

uint64_t TestSeed() {
  const char* seed = std::getenv("TREFOIL_TEST_SEED");
  if (seed == nullptr) return 0;
  char* end = nullptr;
  const uint64_t value = std::strtoull(seed, &end, 10);
  CHECK(*seed != '\0' && *end == '\0') << "TREFOIL_TEST_SEED must be a number, not '" << seed << "'";
  return value;
}

}  // namespace trefoil
