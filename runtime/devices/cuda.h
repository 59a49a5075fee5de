// The CUDA device: one of the host's GPUs. In builds without CUDA these functions return an error that says so.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/device.h"
#include "runtime/status.h"

struct CUstream_st;

namespace trefoil {

struct CudaOptions {
  // Whose kernels compute attention: our own, which have one order of addition, or cuDNN's where it has any
  // (CudnnTakesAttention), whose backward adds in an order that varies, or, with more workspace, does not.
  enum class Attention { kOwn, kCudnn, kCudnnDeterministic };
  Attention attention = Attention::kOwn;
};

// GPU number `ordinal`, from 0, as the CUDA runtime counts (CUDA_VISIBLE_DEVICES).
absl::StatusOr<std::unique_ptr<Device>> NewCudaDevice(int ordinal, const CudaOptions& options = {});

// Whether cuDNN is used for attention without dropout over such heads: bf16, a multiple of 8 columns up to 128, and at
// least 2 tokens.
inline bool CudnnTakesAttention(DType dtype, int64_t head_dim, int64_t tokens) {
  return dtype == DType::kBFloat16 && head_dim % 8 == 0 && head_dim <= 128 && tokens >= 2;
}

// The stream that the calling thread's ops on this device are queued on. `device` is a CUDA device.
CUstream_st* CudaStreamOf(Device& device);

// How many GPUs there are, at least 1; or why none can be used.
absl::StatusOr<int> CudaDevices();
// The UUID of each, in that order: "GPU-5d3a01ff-...", as nvidia-smi has it. Which GPU a number means depends on the process.
absl::StatusOr<std::vector<std::string>> CudaUuids();

}  // namespace trefoil
