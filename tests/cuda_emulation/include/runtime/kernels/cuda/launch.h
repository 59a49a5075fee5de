// The emulated GPU's twin of runtime/kernels/cuda/launch.h: the same interface, kernels run by tests/cuda_emulation.
#pragma once

#include <cstddef>
#include <tuple>
#include <utility>

#include "runtime/kernels/cuda/cuda.h"
#include "tests/cuda_emulation/block.h"
#include "tests/cuda_emulation/stream.h"

namespace trefoil::cuda {

template <typename... Parameters, typename... Arguments>
void Launch(const CudaContext& cuda, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            Arguments&&... arguments) {
  const std::tuple<Parameters...> values(std::forward<Arguments>(arguments)...);
  emulation::Enqueue(cuda.stream, [=] {
    emulation::RunGrid(grid, block, shared_bytes, [&] { std::apply(kernel, values); });
  });
}

template <typename T>
inline T* SharedMemory() {
  return static_cast<T*>(emulation::BlockMemory());
}

}  // namespace trefoil::cuda
