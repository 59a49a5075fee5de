#include "runtime/exact_sum.h"

#include <bit>
#include <vector>

#include "runtime/kernels/cpu/vector.h"

namespace trefoil::cpu {
namespace {

constexpr int64_t kBlock = 4096;  // summands stay in the first cache for the second look
static_assert(kBlock <= kExactBlock);

// Adds the parts of the block's summands in bins top, top - 1 ... 0. In lanes, whose number does not matter to the
// result.
template <int kTop, typename F>
void CutIntoBins(int64_t n, const F& summand, double (&bins)[kExactBins]) {
  constexpr int kLanes = 8;
  double sums[kTop + 1][kLanes] = {};
  const auto cut = [&](int64_t i, int lane) {
    double rest = summand(i);
#pragma GCC unroll 8
    for (int bin = kTop; bin >= 0; --bin) {
      const double rounder = ExactRounder(bin);
      const double part = (rest + rounder) - rounder;
      sums[bin][lane] += part;
      rest -= part;
    }
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (int lane = 0; lane < kLanes; ++lane) cut(i + lane, lane);
  }
  for (int lane = 0; i + lane < n; ++lane) cut(i + lane, lane);
  for (int bin = 0; bin <= kTop; ++bin) {
    for (const double sum : sums[bin]) bins[bin] += sum;
  }
}

// The bits of the largest absolute value: those of infinity and of NaNs are above all others.
template <typename T>
uint32_t LargestBits(const T* x, int64_t n) {
  uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < n; ++i) {
    largest = std::max(largest, std::bit_cast<uint32_t>(static_cast<float>(x[i])) & 0x7fffffffu);
  }
  return largest;
}

// Bins above the one that holds the largest summand get nothing, and are not looked at.
template <bool kSquares, typename T>
ExactSum SumBlock(const T* x, int64_t n) {
  const auto summand = [=](int64_t i) {
    const double v = static_cast<float>(x[i]);
    return kSquares ? v * v : v;
  };
  const double most = std::bit_cast<float>(LargestBits(x, n)), largest = kSquares ? most * most : most;
  double bins[kExactBins] = {}, beyond = 0;
  if (!(largest < kExactMost)) {
    const auto within = [&](int64_t i) { return std::abs(summand(i)) < kExactMost ? summand(i) : 0.0; };
    CutIntoBins<kExactBins - 1>(n, within, bins);
    for (int64_t i = 0; i < n; ++i) beyond += std::abs(summand(i)) < kExactMost ? 0 : summand(i);
  } else if (largest < 0x1p-21) {  // half the grid of bin 3
    CutIntoBins<2>(n, summand, bins);
  } else if (largest < 0x1p15) {  // of bin 4
    CutIntoBins<3>(n, summand, bins);
  } else {
    CutIntoBins<kExactBins - 1>(n, summand, bins);
  }
  ExactSum sum;
  sum.AddBlock(bins, beyond);
  return sum;
}

template <bool kSquares>
ExactSum SumAll(const CpuContext& cpu, const Tensor& x) {
  std::vector<ExactSum> sums(static_cast<size_t>(Blocks(x.elements(), kBlock)));
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* in = x.data<T>();
    ParallelBlocks(cpu, x.elements(), kBlock, [in, out = sums.data()](int64_t begin, int64_t end) {
      out[begin / kBlock] = SumBlock<kSquares>(in + begin, end - begin);
    });
  });
  ExactSum sum;
  for (const ExactSum& part : sums) sum.Add(part);
  return sum;
}

}  // namespace

ExactSums Sums(const CpuContext& cpu, std::span<const Tensor> summed, std::span<const Tensor> squared) {
  ExactSums sums;
  for (const Tensor& x : summed) sums.sum.Add(SumAll<false>(cpu, x));
  for (const Tensor& x : squared) sums.sum_of_squares.Add(SumAll<true>(cpu, x));
  return sums;
}

}  // namespace trefoil::cpu
