// The CUDA device: one of the host's GPUs. In builds without CUDA both functions return an error that says so.
#pragma once

#include <memory>

#include "runtime/device.h"
#include "runtime/status.h"

struct CUstream_st;

namespace trefoil {

// GPU number `ordinal`, from 0, as the CUDA runtime counts (CUDA_VISIBLE_DEVICES).
absl::StatusOr<std::unique_ptr<Device>> NewCudaDevice(int ordinal);

// The stream that the calling thread's ops on this device are queued on. `device` is a CUDA device.
CUstream_st* CudaStreamOf(Device& device);

// How many GPUs there are, at least 1; or why none can be used.
absl::StatusOr<int> CudaDevices();

}  // namespace trefoil
