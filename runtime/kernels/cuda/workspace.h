// Workspace of the CUDA kernels that the null device takes too.
#pragma once

#include <cstdint>

namespace trefoil::cuda {

// Of every product by cuBLASLt: what NVIDIA advises for sm_90; less would do before.
inline constexpr int64_t kBlasWorkspaceBytes = int64_t{32} << 20;

}  // namespace trefoil::cuda
