// Attention in builds that have a CUDA device but no cuDNN (the emulated GPU): every call is left to our own kernels.
#include "runtime/kernels/cuda/cuda.h"

namespace trefoil::cuda {

struct CudnnAttention::Compiled {};

CudnnAttention::CudnnAttention(bool) : backward_() {}
CudnnAttention::~CudnnAttention() = default;

bool CudnnAttention::Forward(const CudaContext&, const AttentionHeads&, const AttentionShape&, const AttentionDropout&,
                             const Tensor&, const Tensor&) {
  return false;
}
bool CudnnAttention::Backward(const CudaContext&, const Tensor&, const AttentionHeads&, const Tensor&, const Tensor&,
                              const AttentionShape&, const AttentionDropout&, const AttentionHeads&, Accumulate) {
  return false;
}

}  // namespace trefoil::cuda
