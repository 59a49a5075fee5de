#include <vector>

#include "runtime/exact_sum.h"
#include "runtime/kernels/cuda/table.h"
#include "runtime/kernels/cuda/vector.h"

namespace trefoil::cuda {
namespace {

constexpr int kSumThreads = 256;
constexpr int64_t kSumBlock = 32768;  // elements; a multiple of every pack
static_assert(kSumBlock <= kExactBlock);

struct SumEntry {
  const void* x;
  int64_t n;
  bool squares, bfloat16;
  bool whole;  // x starts on 16 bytes
  int first_block = 0;
};

// A thread's summands in bins, and what is beyond them (runtime/exact_sum.h).
struct Bins {
  double sums[ExactSum::kLimbs] = {};

  __device__ void Add(double summand) {
    if (!(fabs(summand) < kExactMost)) {
      sums[kExactBins] += summand;
      return;
    }
#pragma unroll
    for (int bin = kExactBins - 1; bin >= 0; --bin) {
      const double rounder = ExactRounder(bin);
      const double part = (summand + rounder) - rounder;
      sums[bin] += part;
      summand -= part;
    }
  }
};

// Over [begin, end) of x: thread t adds packs t, t + kSumThreads ...
template <typename A, typename T>
__device__ inline Bins BinsOfThread(const T* x, int64_t begin, int64_t end, bool squares) {
  constexpr int W = A::kWidth;
  Bins bins;
  const auto add = [&](float value) {
    const double wide = value;
    bins.Add(squares ? wide * wide : wide);
  };
  int64_t i = begin + threadIdx.x * W;
  for (; i + W <= end; i += kSumThreads * W) {
    const Pack<W> pack = Load<A>(x + i);
#pragma unroll
    for (int k = 0; k < W; ++k) add(pack.v[k]);
  }
  for (; i < end; ++i) add(ToFloat(x[i]));  // one thread's: n % W elements
  return bins;
}

// sums[block] = the block's bins. Exact, so in any order.
__global__ void __launch_bounds__(kSumThreads) SumBlocksKernel(const Table<SumEntry> table, double* sums) {
  const SumEntry entry = EntryOfBlock(table);
  const int64_t begin = (blockIdx.x - entry.first_block) * kSumBlock, end = min(entry.n, begin + kSumBlock);
  const auto of_type = [&](auto type) {
    using T = decltype(type);
    constexpr int W = kFullWidth<T>;
    const T* x = static_cast<const T*>(entry.x);
    return entry.whole ? BinsOfThread<Access<W, true>>(x, begin, end, entry.squares)
                       : BinsOfThread<Access<W, false>>(x, begin, end, entry.squares);
  };
  const Bins bins = entry.bfloat16 ? of_type(BFloat16{}) : of_type(float{});
#pragma unroll
  for (int k = 0; k < ExactSum::kLimbs; ++k) {
    const double sum = GroupSum(bins.sums[k]);
    if (threadIdx.x == 0) sums[int64_t{blockIdx.x} * ExactSum::kLimbs + k] = sum;
  }
}

int64_t SumBlocks(std::span<const Tensor> xs) {
  int64_t blocks = 0;
  for (const Tensor& x : xs) blocks += Blocks(x.elements(), kSumBlock);
  return blocks;
}

// Of blocks [begin, end).
ExactSum AddUp(const std::vector<double>& sums, int64_t begin, int64_t end) {
  ExactSum sum;
  for (int64_t block = begin; block < end; ++block) {
    const double* of_block = sums.data() + block * ExactSum::kLimbs;
    double bins[kExactBins];
    std::copy_n(of_block, kExactBins, bins);
    sum.AddBlock(bins, of_block[kExactBins]);
  }
  return sum;
}

}  // namespace

ExactSums Sums(const CudaContext& cuda, std::span<const Tensor> summed, std::span<const Tensor> squared) {
  const int64_t split = SumBlocks(summed), count = split + SumBlocks(squared);
  if (count == 0) return {};
  const Workspace<double> workspace(cuda, count * ExactSum::kLimbs);
  double* next = workspace.data();
  TableLauncher<SumEntry> tables([&](const Table<SumEntry>& table, int64_t blocks) {
    Launch(cuda, SumBlocksKernel, GridSize(blocks), kSumThreads, 0, table, next);
    next += blocks * ExactSum::kLimbs;
  });
  const auto add = [&](const Tensor& x, bool squares) {
    tables.Add({.x = x.raw(),
                .n = x.elements(),
                .squares = squares,
                .bfloat16 = x.dtype() == DType::kBFloat16,
                .whole = Aligned<16>(static_cast<const char*>(x.raw()))},
               Blocks(x.elements(), kSumBlock));
  };
  for (const Tensor& x : summed) add(x, false);
  for (const Tensor& x : squared) add(x, true);
  tables.Finish();
  std::vector<double> sums(static_cast<size_t>(count * ExactSum::kLimbs));
  TREFOIL_CUDA(cudaMemcpyAsync(sums.data(), workspace.data(), sums.size() * sizeof(double), cudaMemcpyDeviceToHost,
                               cuda.stream));
  TREFOIL_CUDA(cudaStreamSynchronize(cuda.stream));
  return {.sum = AddUp(sums, 0, split), .sum_of_squares = AddUp(sums, split, count)};
}

}  // namespace trefoil::cuda
