// Starting a kernel, and the shared memory that it is started with. For .cu files.
//
//   __global__ void ScaleKernel(float* x, int n, float factor);
//   Launch(cuda, ScaleKernel, GridSize(Blocks(n, 256)), 256, 0, x, n, factor);
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

#include "runtime/kernels/cuda/cuda.h"

namespace trefoil::cuda {

// Queues kernel(arguments...) on the context's stream with `grid` blocks of `block` threads, neither of them empty, and
// `shared_bytes` of SharedMemory for each block.
template <typename... Parameters, typename... Arguments>
void Launch(const CudaContext& cuda, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            Arguments&&... arguments) {
  constexpr size_t kWithoutAsking = 48 << 10;
  if (shared_bytes > kWithoutAsking) {
    TREFOIL_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                      cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = cuda.stream;
  TREFOIL_CUDA(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...));
}

// The start of the block's shared memory.
template <typename T>
__device__ inline T* SharedMemory() {
  extern __shared__ __align__(16) unsigned char trefoil_shared_memory[];
  return reinterpret_cast<T*>(trefoil_shared_memory);
}

}  // namespace trefoil::cuda
