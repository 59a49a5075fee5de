// The few PTX instructions of sm_80 and later that C++ has no name for (PTX ISA: cvt, cp.async, ldmatrix, mma). All
// lanes of a warp call LoadMatrices and MultiplyAdd together.
#pragma once

#include <cstdint>

namespace trefoil::cuda {

// Two bf16 in a word, `first` in its low half, which is the lower address. Rounded to nearest, ties to even.
__device__ inline uint32_t PairOfBFloat16(float first, float second) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

// Starts a copy of kBytes (4 or 16, to which both addresses are aligned) from global to shared memory; where not
// `inside`, `global` is not read and zeros are written.
template <int kBytes>
__device__ inline void CopyAsync(void* shared, const void* global, bool inside) {
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const size_t from = __cvta_generic_to_global(global);
  const int read = inside ? kBytes : 0;
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(read) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(read) : "memory");
  }
}
// Ends a group of this thread's copies (which may be empty).
__device__ inline void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits for all but the latest kGroups groups of this thread's copies.
template <int kGroups>
__device__ inline void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

// Four 8 x 8 matrices of bf16 from shared memory. Lane i gives the address of row i % 8 of matrix i / 8 (16 bytes,
// aligned) and gets of each matrix the elements (i / 4, 2 * (i % 4)) and the next in the row; transposed: of its
// transpose.
template <bool kTranspose>
__device__ inline void LoadMatrices(uint32_t (&to)[4], const void* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (kTranspose) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  }
}

// sum[16, 8] += a[16, 16] b[16, 8], bf16 products added in fp32 by the tensor cores. With g = lane / 4, t = 2 * (lane %
// 4), each register holding two neighbours:  a: (g, t), (g + 8, t), (g, t + 8), (g + 8, t + 8) and the next column; b:
// (t, g), (t + 8, g) and the next row;  sum: (g, t), (g, t + 1), (g + 8, t), (g + 8, t + 1).
__device__ inline void MultiplyAdd(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace trefoil::cuda
