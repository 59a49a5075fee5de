// Operands of fp8 products, made anew from bf16 wherever they are used: e4m3 for activations and weights; e5m2, of
// wider range, for the gradients of outputs (Micikevicius et al. 2022, section 4).
#pragma once

#include "model/context.h"

namespace trefoil {

// A tensor [R, C] and its transpose [C, R], one of which may be undefined: inner dims of fp8 products lie side by side.
struct Float8Operand {
  Tensor plain, transposed, scale;
};

enum class Layouts { kPlain, kTransposed, kBoth };
Float8Operand ToFloat8(const Context& context, const Tensor& x, DType format, Layouts layouts);

}  // namespace trefoil
