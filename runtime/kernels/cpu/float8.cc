#include "runtime/kernels/float8.h"

#include <vector>

#include "runtime/kernels/cpu/vector.h"

namespace trefoil::cpu {
namespace {

// Calls f(Float8{}) with the format of `dtype`.
template <typename F>
void WithFloat8(DType dtype, const F& f) {
  if (dtype == DType::kFloat8E4M3) {
    f(Float8E4M3{});
  } else {
    f(Float8E5M2{});
  }
}

// The largest |x|, as bits.
template <typename T>
uint32_t Largest(const CpuContext& cpu, const T* x, int64_t n) {
  std::vector<uint32_t> of_block(static_cast<size_t>(Blocks(n, kGrain)));
  ParallelBlocks(cpu, n, kGrain, [=, of_block = of_block.data()](int64_t begin, int64_t end) {
    uint32_t largest = 0;
    for (int64_t i = begin; i < end; ++i) {
      largest = std::max(largest, std::bit_cast<uint32_t>(static_cast<float>(x[i])) & 0x7fffffffu);
    }
    of_block[begin / kGrain] = largest;
  });
  return of_block.empty() ? 0 : *std::max_element(of_block.begin(), of_block.end());
}

}  // namespace

void Quantize(const CpuContext& cpu, const Tensor& x, const Tensor& out, const Tensor& out_transposed,
              const Tensor& scale) {
  const int64_t rows = x.dim(0), columns = x.dim(1);
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    WithFloat8(out.defined() ? out.dtype() : out_transposed.dtype(), [&](auto format) {
      using F = decltype(format);
      const T* in = x.data<T>();
      const float step = std::bit_cast<float>(ScaleBits<F>(Largest(cpu, in, x.elements())));
      *scale.data<float>() = step;
      const float inverse = 1 / step;
      F* plain = out.defined() ? out.data<F>() : nullptr;
      F* transposed = out_transposed.defined() ? out_transposed.data<F>() : nullptr;
      constexpr int64_t kRows = 16;  // a block of the transpose: as many rows as elements of its lines are written
      ParallelBlocks(cpu, rows, std::max(kRows, RowGrain(columns) / kRows * kRows), [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; plain != nullptr && i < end; ++i) {
          for (int64_t j = i * columns; j < (i + 1) * columns; ++j) plain[j] = F(static_cast<float>(in[j]) * inverse);
        }
        for (int64_t top = begin; transposed != nullptr && top < end; top += kRows) {
          for (int64_t j = 0; j < columns; ++j) {
            for (int64_t i = top; i < std::min(end, top + kRows); ++i) {
              transposed[j * rows + i] = F(static_cast<float>(in[i * columns + j]) * inverse);
            }
          }
        }
      });
    });
  });
}

void FromFloat8(const CpuContext& cpu, const Tensor& x, const Tensor& scale, const Tensor& out) {
  WithFloat8(x.dtype(), [&](auto format) {
    using F = decltype(format);
    const F* in = x.data<F>();
    BFloat16* wide = out.data<BFloat16>();
    const float* factor = scale.data<float>();
    ParallelBlocks(cpu, x.elements(), kGrain, [=](int64_t begin, int64_t end) {
      const float step = *factor;
      for (int64_t i = begin; i < end; ++i) Store(wide[i], static_cast<float>(in[i]) * step);
    });
  });
}

}  // namespace trefoil::cpu
