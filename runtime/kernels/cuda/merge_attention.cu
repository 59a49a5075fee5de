#include "runtime/kernels/cuda/vector.h"

namespace trefoil::cuda {
namespace {

// A warp takes a token's head.
constexpr int kThreads = 128;

template <typename T, typename P>
__global__ void __launch_bounds__(kThreads)
    MergeKernel(T* out, float* log_sum_exp, const P* part, const float* part_log_sum_exp, int64_t rows, int64_t heads,
                int64_t tokens, int dim) {
  const int64_t row = (blockIdx.x * int64_t{kThreads} + threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (row >= rows) return;
  const int64_t at = (row / heads / tokens * heads + row % heads) * tokens + row / heads % tokens;
  const float sum = log_sum_exp[at], part_sum = part_log_sum_exp[at];
  if (part_sum == -INFINITY) return;
  // With a first part of no keys, exp of -infinity makes the share 1.
  const float difference = part_sum - sum, share = 1.0f / (1.0f + expf(-difference));
  for (int d = lane; d < dim; d += 32) {
    const int64_t i = row * dim + d;
    const float before = ToFloat(out[i]);
    StoreElement(out + i, before + share * (ToFloat(part[i]) - before));
  }
  __syncwarp();
  if (lane == 0) log_sum_exp[at] = fmaxf(sum, part_sum) + log1pf(expf(-fabsf(difference)));
}

}  // namespace

void MergeAttention(const CudaContext& cuda, const Tensor& out, const Tensor& log_sum_exp, const Tensor& part,
                    const Tensor& part_log_sum_exp) {
  const int64_t heads = log_sum_exp.dim(1), rows = log_sum_exp.elements();
  if (rows == 0) return;
  WithType(out.dtype(), [&](auto type) {
    WithType(part.dtype(), [&](auto part_type) {
      using T = decltype(type);
      using P = decltype(part_type);
      Launch(cuda, MergeKernel<T, P>, GridSize(Blocks(rows * 32, kThreads)), kThreads, 0, out.data<T>(),
             log_sum_exp.data<float>(), part.data<P>(), part_log_sum_exp.data<float>(), rows, heads, log_sum_exp.dim(2),
             static_cast<int>(out.dim(1) / heads));
    });
  });
}

}  // namespace trefoil::cuda
