// What this machine can do at best, measured: the ceilings that speeds are compared with.
//
// Both take about a tenth of a second, use `threads` threads, and return the best of a few tries: other work on the
// machine makes single tries worse, never better.
// Threads: any; several ranks may measure at once, to learn what each gets when all work.
#pragma once

#include "runtime/dtype.h"

namespace trefoil {

// FLOP/s of multiply-adds on registers only, in the widest instructions the CPU has: AVX2, AVX-512, or for bfloat16 AMX
// tiles or AVX-512 BF16. Where bf16 has no instructions its peak is float32's: that is what its products are made with.
double MeasurePeakFlops(DType dtype, int threads);

// Bytes per second of adding one large array to another, reads and writes counted.
double MeasureMemoryBandwidth(int threads);

}  // namespace trefoil
