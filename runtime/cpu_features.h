// What this process may use of the CPU: matrix instructions and cores.
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

// Cores that this process may run on: fewer than the host's where mpirun, Slurm or a container binds it to some.
int CoresAllowed();
int CoresOfHost();

}  // namespace trefoil
