// What a build without CUDA has in the place of devices/cuda.cc.
#include "runtime/devices/cuda.h"

namespace trefoil {

absl::StatusOr<int> CudaDevices() {
  return absl::UnimplementedError("this program was built without CUDA; build it with --config=cuda");
}

absl::StatusOr<std::vector<std::string>> CudaUuids() { return CudaDevices().status(); }

absl::StatusOr<std::unique_ptr<Device>> NewCudaDevice(int, const CudaOptions&) { return CudaDevices().status(); }

}  // namespace trefoil
