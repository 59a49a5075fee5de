// How the CPU multiplies bf16 matrices: by its bf16 instructions, or by those of float32 after conversion, which on
// some CPUs are the faster ones (runtime/host/product_speeds.h). A CPU without bf16 instructions always converts. Both
// round inputs and outputs alike, and add up in float32 in orders of their own.
#pragma once

namespace trefoil {

enum class Bf16Products { kNative, kFloat32 };

}  // namespace trefoil
