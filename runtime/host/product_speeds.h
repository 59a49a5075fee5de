// How fast this CPU multiplies matrices in each precision, measured: bf16 instructions are not faster than float32's
// everywhere. On one Xeon float32 reached 342 GFLOP/s and the dot products of AVX-512 BF16 172; with AMX, bf16 is many
// times faster.
//
//   const ProductSpeeds speeds = MeasureProductSpeeds();
//   if (!Bf16Pays(speeds)) ...  // float32 is the faster precision
#pragma once

#include "runtime/host/cpu_features.h"

namespace trefoil {

// FLOP/s of one thread in the three products of a linear layer (forward, input gradient, weight gradient) with 256 tokens
// and 768 x 768 weights.
struct ProductSpeeds {
  double float32 = 0;
  double bf16_native = 0;   // bf16 matrices by bf16 instructions; 0: the CPU has none
  double bf16_float32 = 0;  // bf16 matrices, converted while they are packed
};

// By the kernels that training uses, at the used CPU level: the best of a few tries, in about 0.1 s on an idle core.
ProductSpeeds MeasureProductSpeeds();

// The way of multiplying bf16 that is the faster one.
Bf16Products FasterBf16Products(const ProductSpeeds& speeds);

// Whether bf16 is the faster precision, and not by so little that measuring again could say the contrary (10%).
bool Bf16Pays(const ProductSpeeds& speeds);

}  // namespace trefoil
