#include <cuda_fp8.h>

#include "runtime/kernels/cuda/vector.h"
#include "runtime/kernels/float8.h"

namespace trefoil::cuda {
namespace {

// Four fp8 in a word, `a` in its lowest byte, which is the lowest address.
template <typename F>
__device__ inline uint32_t QuadOfFloat8(float a, float b, float c, float d) {
  constexpr __nv_fp8_interpretation_t kFormat = std::is_same_v<F, Float8E4M3> ? __NV_E4M3 : __NV_E5M2;
  const uint32_t low = __nv_cvt_float2_to_fp8x2(make_float2(a, b), __NV_SATFINITE, kFormat);
  const uint32_t high = __nv_cvt_float2_to_fp8x2(make_float2(c, d), __NV_SATFINITE, kFormat);
  return low | high << 16;
}
__device__ inline uint32_t ByteOf(uint32_t word, int byte) { return word >> (8 * byte) & 0xffu; }

// In every thread, over all threads of the block.
__device__ inline uint32_t BlockMax(uint32_t x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x = max(x, __shfl_xor_sync(0xffffffffu, x, distance));
  return OverWarps(x, [](uint32_t a, uint32_t b) { return max(a, b); });
}

constexpr int kLargestThreads = 256;

// largest[block] = the largest |x| that the block meets, as bits.
template <typename A, typename T>
__global__ void __launch_bounds__(kLargestThreads) LargestKernel(const T* x, int64_t n, uint32_t* largest) {
  constexpr int W = A::kWidth;
  uint32_t mine = 0;
  const int64_t step = int64_t{gridDim.x} * kLargestThreads * W;
  int64_t i = (blockIdx.x * int64_t{kLargestThreads} + threadIdx.x) * W;
#pragma unroll 4
  for (; i + W <= n; i += step) {
    const Pack<W> pack = Load<A>(x + i);
#pragma unroll
    for (int k = 0; k < W; ++k) mine = max(mine, __float_as_uint(pack.v[k]) & 0x7fffffffu);
  }
  for (; i < n; ++i) mine = max(mine, __float_as_uint(ToFloat(x[i])) & 0x7fffffffu);  // one thread's: n % W elements
  mine = BlockMax(mine);
  if (threadIdx.x == 0) largest[blockIdx.x] = mine;
}

// A tile of the tensor is a block's: each thread takes 4 rows of 16 columns.
constexpr int kTileRows = 64, kTileColumns = 128, kAcross = kTileColumns / 16;
constexpr int kQuantizeThreads = kTileRows / 4 * kAcross;

// out and out_transposed may be null. A: Access<16, true> where rows and columns are multiples of 16 and everything
// starts on 16 bytes, else Access<16, false>.
template <typename A, typename F, typename T>
__global__ void __launch_bounds__(kQuantizeThreads)
    QuantizeKernel(const T* x, int64_t rows, int64_t columns, const uint32_t* largest, int parts, F* out,
                   F* out_transposed, float* scale) {
  uint32_t of_all = 0;
  for (int part = static_cast<int>(threadIdx.x); part < parts; part += kQuantizeThreads) {
    of_all = max(of_all, largest[part]);
  }
  const float step = __uint_as_float(ScaleBits<F>(BlockMax(of_all)));
  if (blockIdx.x == 0 && threadIdx.x == 0) *scale = step;
  const float inverse = 1.0f / step;

  constexpr bool kWhole = A::kWhole;
  const int64_t across = (columns + kTileColumns - 1) / kTileColumns;
  const int64_t tile_row = blockIdx.x / across * kTileRows, tile_column = blockIdx.x % across * kTileColumns;
  const int group = static_cast<int>(threadIdx.x) % kAcross, four = static_cast<int>(threadIdx.x) / kAcross;
  const int64_t column = tile_column + 16 * group;
  uint32_t words[4][4];  // [row][columns in fours]
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t row = tile_row + 4 * four + i;
    const T* from = x + row * columns + column;
    float v[16] = {};
    if (kWhole && row < rows && column < columns) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const Pack<8> pack = Load<Access<8, true>>(from + 8 * half);
#pragma unroll
        for (int k = 0; k < 8; ++k) v[8 * half + k] = pack.v[k];
      }
    } else if (row < rows) {
#pragma unroll
      for (int k = 0; k < 16; ++k) v[k] = column + k < columns ? ToFloat(from[k]) : 0.0f;
    }
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      words[i][q] = QuadOfFloat8<F>(v[4 * q] * inverse, v[4 * q + 1] * inverse, v[4 * q + 2] * inverse,
                                    v[4 * q + 3] * inverse);
    }
    if (out == nullptr || row >= rows) continue;
    F* to = out + row * columns + column;
    if (kWhole) {
      const uint4 all = make_uint4(words[i][0], words[i][1], words[i][2], words[i][3]);
      if (column < columns) *reinterpret_cast<uint4*>(to) = all;
    } else {
#pragma unroll
      for (int k = 0; k < 16; ++k) {
        if (column + k < columns) to[k].bits = static_cast<uint8_t>(ByteOf(words[i][k / 4], k % 4));
      }
    }
  }
  if (out_transposed == nullptr) return;

  // [column][rows in fours]. Sixteen rows of a column stay side by side; which sixteen changes from group to group, so
  // that a warp's writes meet in the banks two by two at most.
  __shared__ uint4 tile[kTileColumns][kTileRows / 16];
  auto* tile_words = reinterpret_cast<uint32_t(*)[kTileRows / 4]>(tile);
  const auto place = [](int tile_group, int sixteen) { return sixteen ^ (tile_group & 3); };
#pragma unroll
  for (int k = 0; k < 16; ++k) {
    const int q = k / 4, byte = k % 4;
    tile_words[16 * group + k][4 * place(group, four / 4) + four % 4] =
        ByteOf(words[0][q], byte) | ByteOf(words[1][q], byte) << 8 | ByteOf(words[2][q], byte) << 16 |
        ByteOf(words[3][q], byte) << 24;
  }
  __syncthreads();
#pragma unroll
  for (int chunk = static_cast<int>(threadIdx.x); chunk < kTileColumns * kTileRows / 16; chunk += kQuantizeThreads) {
    const int c = chunk / (kTileRows / 16), sixteen = chunk % (kTileRows / 16);
    const int64_t to_column = tile_column + c, row = tile_row + 16 * sixteen;
    if (to_column >= columns || row >= rows) continue;
    const uint4 all = tile[c][place(c / 16, sixteen)];
    F* to = out_transposed + to_column * rows + row;
    if (kWhole) {
      *reinterpret_cast<uint4*>(to) = all;
    } else {
      const uint32_t of_four[4] = {all.x, all.y, all.z, all.w};
#pragma unroll
      for (int k = 0; k < 16; ++k) {
        if (row + k < rows) to[k].bits = static_cast<uint8_t>(ByteOf(of_four[k / 4], k % 4));
      }
    }
  }
}

}  // namespace

void Quantize(const CudaContext& cuda, const Tensor& x, const Tensor& out, const Tensor& out_transposed,
              const Tensor& scale) {
  const int64_t n = x.elements(), rows = x.dim(0), columns = x.dim(1);
  if (n == 0) return Fill(cuda, scale, 1);
  WithType(x.dtype(), [&](auto type) {
    using T = decltype(type);
    constexpr int W = kFullWidth<T>;
    const T* in = x.data<T>();
    const int parts = static_cast<int>(std::min(Blocks(n, 4 * W * kLargestThreads), 2 * kSumParts));
    const Workspace<uint32_t> largest(cuda, parts);
    const auto largest_kernel = Aligned<W>(in) ? LargestKernel<Access<W, true>, T> : LargestKernel<Access<W, false>, T>;
    Launch(cuda, largest_kernel, parts, kLargestThreads, 0, in, n, largest.data());
    const auto quantize = [&](auto format) {
      using F = decltype(format);
      F* plain = out.defined() ? out.data<F>() : nullptr;
      F* transposed = out_transposed.defined() ? out_transposed.data<F>() : nullptr;
      const bool whole = rows % 16 == 0 && columns % 16 == 0 && Aligned<16>(plain, transposed) && Aligned<W>(in);
      const auto kernel =
          whole ? QuantizeKernel<Access<16, true>, F, T> : QuantizeKernel<Access<16, false>, F, T>;
      Launch(cuda, kernel, GridSize(Blocks(rows, kTileRows) * Blocks(columns, kTileColumns)), kQuantizeThreads, 0, in,
             rows, columns, largest.data(), parts, plain, transposed, scale.data<float>());
    };
    if ((out.defined() ? out.dtype() : out_transposed.dtype()) == DType::kFloat8E4M3) {
      quantize(Float8E4M3{});
    } else {
      quantize(Float8E5M2{});
    }
  });
}

}  // namespace trefoil::cuda
