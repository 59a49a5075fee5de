// Devices and memory of the emulated GPU.
#include <cuda_runtime_api.h>
#include <glog/logging.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "tests/cuda_emulation/stream.h"

namespace {

constexpr size_t kTotalBytes = size_t{16} << 30;

struct Mapping {
  void* start;
  size_t bytes;
};
std::mutex mutex;
std::map<void*, Mapping>& Mappings() {
  static auto* const mappings = new std::map<void*, Mapping>;
  return *mappings;
}
size_t used = 0;

// Blocks end at a page that may not be touched, and one lies before them. Those up to kPoisoned bytes start as NaNs.
constexpr size_t kPoisoned = 4 << 20;
cudaError_t Map(void** data, size_t bytes) {
  if (trefoil::emulation::Capturing()) return cudaErrorStreamCaptureUnsupported;
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t rounded = (bytes + 63) / 64 * 64, pages = (rounded + page - 1) / page * page;
  std::lock_guard lock(mutex);
  if (used + pages > kTotalBytes) return cudaErrorMemoryAllocation;
  auto* const start = static_cast<char*>(
      mmap(nullptr, pages + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  CHECK(start != MAP_FAILED);
  CHECK_EQ(mprotect(start + page, pages, PROT_READ | PROT_WRITE), 0);
  if (pages <= kPoisoned) std::memset(start + page, 0xff, pages);
  *data = start + page + pages - rounded;
  Mappings()[*data] = {start, pages + 2 * page};
  used += pages;
  return cudaSuccess;
}
cudaError_t Unmap(void* data) {
  if (data == nullptr) return cudaSuccess;
  trefoil::emulation::DrainAll();
  std::lock_guard lock(mutex);
  const auto found = Mappings().find(data);
  if (found == Mappings().end()) return cudaErrorInvalidValue;
  CHECK_EQ(munmap(found->second.start, found->second.bytes), 0);
  used -= found->second.bytes - 2 * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  Mappings().erase(found);
  return cudaSuccess;
}

// The number that CUDA_VISIBLE_DEVICES names, -1 where it is not set.
int OnlyVisible() {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  return visible == nullptr ? -1 : std::atoi(visible);
}

}  // namespace

extern "C" {

// TREFOIL_EMULATED_GPUS, one where it is not set; or the one that CUDA_VISIBLE_DEVICES, of one number, names.
cudaError_t cudaGetDeviceCount(int* count) {
  const char* text = std::getenv("TREFOIL_EMULATED_GPUS");
  *count = OnlyVisible() >= 0 ? 1 : text == nullptr ? 1 : std::atoi(text);
  return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  *properties = {};
  properties->uuid.bytes[15] = static_cast<char>(OnlyVisible() >= 0 ? OnlyVisible() : device);
  std::strcpy(properties->name, "emulated on the CPU");
  properties->major = 9;
  properties->minor = 0;
  properties->multiProcessorCount = 4;
  properties->totalGlobalMem = kTotalBytes;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  CHECK(attribute == cudaDevAttrComputeCapabilityMajor || attribute == cudaDevAttrComputeCapabilityMinor);
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? 9 : 0;
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t error) {
  static thread_local char text[32];
  std::snprintf(text, sizeof(text), "CUDA error %d", static_cast<int>(error));
  return error == cudaErrorNoDevice ? "no CUDA-capable device is detected" : text;
}
const char* cudaGetErrorName(cudaError_t error) { return cudaGetErrorString(error); }
cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaMalloc(void** data, size_t bytes) { return Map(data, bytes); }
cudaError_t cudaFree(void* data) { return Unmap(data); }
cudaError_t cudaMallocHost(void** data, size_t bytes) { return Map(data, bytes); }
cudaError_t cudaFreeHost(void* data) { return Unmap(data); }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  std::lock_guard lock(mutex);
  *free = kTotalBytes - used;
  *total = kTotalBytes;
  return cudaSuccess;
}

}  // extern "C"
