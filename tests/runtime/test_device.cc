#include "tests/runtime/test_device.h"

#include <glog/logging.h>

#include <cstdlib>
#include <string_view>

#include "runtime/devices/cuda.h"

namespace trefoil {
namespace {

CudaOptions::Attention TestAttention() {
  const char* variable = std::getenv("TREFOIL_TEST_ATTENTION");
  const std::string_view name = variable == nullptr ? "OWN" : variable;
  if (name == "CUDNN") return CudaOptions::Attention::kCudnn;
  if (name == "CUDNN_DETERMINISTIC") return CudaOptions::Attention::kCudnnDeterministic;
  CHECK_EQ(name, "OWN") << "TREFOIL_TEST_ATTENTION must be OWN, CUDNN or CUDNN_DETERMINISTIC";
  return CudaOptions::Attention::kOwn;
}

}  // namespace

bool OnGpu() {
  const char* name = std::getenv("TREFOIL_TEST_DEVICE");
  if (name == nullptr || std::string_view(name) == "cpu") return false;
  CHECK_EQ(std::string_view(name), "cuda") << "TREFOIL_TEST_DEVICE must be cpu or cuda";
  return true;
}

bool RunsRepeat() { return !OnGpu() || TestAttention() != CudaOptions::Attention::kCudnn; }

std::unique_ptr<Device> NewTestDevice(int cpu_threads) {
  if (!OnGpu()) return NewCpuDevice(cpu_threads);
  auto device = NewCudaDevice(0, {.attention = TestAttention()});
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
