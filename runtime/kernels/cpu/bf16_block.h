// Products of small bf16 blocks with fp32 sums, by the CPU's bf16 instructions: what attention in bf16 is made of.
//
//   const Bf16Work work(kernel);                                     // on the thread that multiplies
//   kernel.block(64, 128, 64, a, lda, b, 128, c, 128, /*add=*/false);  // c [64, 128] = a [64, 64] b [64, 128]
//
// Every size is a multiple of kBf16Pad, and all elements up to the sizes are read: who has fewer fills up a and b with
// zeros. The right operand is packed in pairs along the inner dim, the layout that the instructions take.
//
// An element of a result depends on its row of a and its column of b alone, and on the kernel: AVX-512 and AMX add in
// different orders.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/dtype.h"

namespace trefoil::cpu {

inline constexpr int64_t kBf16Pad = 32;
inline constexpr int64_t PadBf16(int64_t n) { return (n + kBf16Pad - 1) / kBf16Pad * kBf16Pad; }

// Two neighbours along the inner dim: the even one in the low half.
using Bf16Pair = uint32_t;
inline Bf16Pair MakePair(BFloat16 even, BFloat16 odd) { return even.bits | Bf16Pair{odd.bits} << 16; }

// The instructions of one kind of CPU.
struct Bf16Kernel {
  const char* name;

  // c [m, n] = or += a [m, k] b [k, n]. a lies as in memory, with rows `lda` elements apart, and needs no alignment.
  // Elements (l, j) and (l + 1, j) of b, l even, are the pair b[l / 2 * ldb + j].
  void (*block)(int64_t m, int64_t n, int64_t k, const BFloat16* a, int64_t lda, const Bf16Pair* b, int64_t ldb,
                float* c, int64_t ldc, bool add);

  // Prepare this thread for block() and give back what that took. See Bf16Work.
  void (*begin)();
  void (*end)();
};

// For as long as it lives, this thread may call the kernel's block(), and no other user of AMX tiles (oneDNN) runs on
// it: tile registers have one shape at a time.
class Bf16Work {
 public:
  explicit Bf16Work(const Bf16Kernel& kernel) : kernel_(kernel) { kernel.begin(); }
  ~Bf16Work() { kernel_.end(); }
  Bf16Work(const Bf16Work&) = delete;
  Bf16Work& operator=(const Bf16Work&) = delete;

 private:
  const Bf16Kernel& kernel_;
};

// The kernels that this CPU can run: the fastest first, and last the plain C++ one, which is for tests.
std::vector<const Bf16Kernel*> Bf16Kernels();

// The fastest, or null where the CPU has no bf16 instructions: fp32 is faster there than the plain one.
const Bf16Kernel* BestBf16Kernel();

}  // namespace trefoil::cpu
