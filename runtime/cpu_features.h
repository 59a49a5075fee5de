// Which matrix instructions this CPU has that the operating system also lets this process use.
#pragma once

namespace trefoil {

// AVX-512 as x86-64-v4 has it.
bool CpuHasAvx512();
// AMX tiles with bf16 products. Asks Linux for the tile registers, which it gives to a process on request only.
bool CpuHasAmxBFloat16();
// AVX-512 dot products of bf16.
bool CpuHasAvx512BFloat16();
// Either: bf16 is then the faster precision.
bool CpuHasBFloat16();

}  // namespace trefoil
