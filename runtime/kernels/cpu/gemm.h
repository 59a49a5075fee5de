// Matrix products in fp32: the register tile that all of them come down to, and the packed product built on it.
//
// Every element of a result is c + (sum over the first kGemmDepth of k) + (sum over the next) + ..., each sum running
// in order, one fused multiply-add at a time. So it depends on its row of a and its column of b alone: not on the
// number of threads, nor on which rows and columns are computed together. A slice of a product is, to the bit, the
// product of the slices.
//
// Goto & van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34(3), 2008, for the packing.
#pragma once

#include <cstdint>

#include "runtime/kernels/cpu/cpu.h"

namespace trefoil::cpu {

// Inner elements that are added up before their sum goes to the result.
inline constexpr int64_t kGemmDepth = 256;

// Any strides: a transposed operand costs nothing here.
struct GemmA {
  const float* data;
  int64_t row_stride, column_stride;
};

// The tile for one kind of CPU.
struct GemmKernel {
  int rows, columns;  // of a tile

  // c [m, n] = or += a b [+ bias], of packed operands: a in panels of `rows` rows, each [k][rows], and b in panels of
  // `columns` columns, each [k][columns]; the last panel of each is filled up. bias: [n] or null.
  void (*panels)(const float* a, const float* b, int64_t m, int64_t n, int64_t k, float* c, int64_t ldc, bool add,
                 const float* bias);

  // c [m, n] = or += a b, of small matrices as they lie. n is a multiple of kGemmColumns, and the rows of b and c are
  // readable and writable to it.
  void (*block)(int64_t m, int64_t n, int64_t k, const GemmA& a, const float* b, int64_t ldb, float* c, int64_t ldc,
                bool add);
};

inline constexpr int64_t kGemmColumns = 16;
inline int64_t PadColumns(int64_t n) { return (n + kGemmColumns - 1) / kGemmColumns * kGemmColumns; }

// For any CPU of x86-64-v3, and for those of x86-64-v4.
const GemmKernel& Avx2GemmKernel();
const GemmKernel& Avx512GemmKernel();

// As Matmul of runtime/ops.h, for float32 and bfloat16 (converted while packing). The inner dim is not 0.
void Gemm(const CpuContext& cpu, const GemmKernel& kernel, const Tensor& a, Transpose transpose_a, const Tensor& b,
          Transpose transpose_b, const Tensor& out, Accumulate accumulate, const Tensor& bias);

// Rows of a up to which MultiplyFewRows is used.
inline constexpr int64_t kFewRows = 4;
// out = or += a b^T [+ bias] of at most so many rows, a and b as Gemm has them and with its result to the bit; made to
// read b from memory as fast as that goes.
void MultiplyFewRows(const CpuContext& cpu, const Tensor& a, const Tensor& b, const Tensor& out, Accumulate accumulate,
                     const Tensor& bias);

}  // namespace trefoil::cpu
