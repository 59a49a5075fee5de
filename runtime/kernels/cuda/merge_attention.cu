#include "runtime/kernels/cuda/vector.h"

namespace trefoil::cuda {
namespace {

// A warp takes a token's head.
constexpr int kThreads = 128;

template <typename A, typename T, typename P>
__global__ void __launch_bounds__(kThreads)
    MergeKernel(T* out, float* log_sum_exp, const P* part, const float* part_log_sum_exp, int rows, int tokens,
                int dim) {
  const int row = static_cast<int>((blockIdx.x * kThreads + threadIdx.x) / 32);  // b * T + t
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int head = static_cast<int>(blockIdx.y), heads = static_cast<int>(gridDim.y);
  if (row >= rows) return;
  const int64_t at = (static_cast<int64_t>(row / tokens) * heads + head) * tokens + row % tokens;
  const float sum = log_sum_exp[at], part_sum = part_log_sum_exp[at];
  if (part_sum == -INFINITY) return;
  // With a first part of no keys, exp of -infinity makes the share 1.
  const float difference = part_sum - sum, share = 1.0f / (1.0f + expf(-difference));
  const auto merge = [share](float before, float more) { return before + share * (more - before); };
#pragma unroll 2
  for (int d = lane * A::kWidth; d < dim; d += 32 * A::kWidth) {
    const int64_t i = (static_cast<int64_t>(row) * heads + head) * dim + d;
    Store<A>(out + i, Apply<A::kWidth>(merge, Load<A>(out + i), Load<A>(part + i)));
  }
  __syncwarp();
  if (lane == 0) log_sum_exp[at] = fmaxf(sum, part_sum) + log1pf(expf(-fabsf(difference)));
}

}  // namespace

void MergeAttention(const CudaContext& cuda, const Tensor& out, const Tensor& log_sum_exp, const Tensor& part,
                    const Tensor& part_log_sum_exp) {
  const int64_t rows = out.dim(0), heads = log_sum_exp.dim(1);
  if (rows == 0) return;
  WithType(out.dtype(), [&](auto type) {
    WithType(part.dtype(), [&](auto part_type) {
      using T = decltype(type);
      using P = decltype(part_type);
      const int64_t dim = out.dim(1) / heads;
      T* o = out.data<T>();
      const P* p = part.data<P>();
      WithAccess<kFullWidth<P>>(dim, Aligned<kFullWidth<P>>(o) && Aligned<kFullWidth<P>>(p), [&](auto access) {
        Launch(cuda, MergeKernel<decltype(access), T, P>, dim3(GridSize(Blocks(rows * 32, kThreads)), GridSize(heads)),
               kThreads, 0, o, log_sum_exp.data<float>(), p, part_log_sum_exp.data<float>(), RowIndex(rows),
               RowIndex(log_sum_exp.dim(2)), RowIndex(dim));
      });
    });
  });
}

}  // namespace trefoil::cuda
