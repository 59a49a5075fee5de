// What this process may use of the CPU: matrix instructions and cores.
#pragma once

#include <string>

#include "runtime/bf16_products.h"
#include "runtime/status.h"

namespace trefoil {

// Instructions for matrix products; each level has those below it.
enum class CpuLevel {
  kAvx2,        // with FMA: x86-64-v3
  kAvx512,      // as x86-64-v4 has it
  kAvx512Bf16,  // and dot products of bf16
  kAmx,         // and tiles, with bf16 products of them
};
const char* Name(CpuLevel level);  // "AVX2", "AVX512", "AVX512_BF16", "AMX"

// What kernels use: all that the CPU has, or, where the environment variable TREFOIL_CPU_LEVEL names a lower level, no more
// than that. So a machine computes what a lesser one computes, to the bit, and tests see every level up to the
// machine's. oneDNN is held to the same level (runtime/kernels/cpu/matmul.cc).
CpuLevel UsedCpuLevel();
// What the CPU has. Asks Linux for the tile registers of AMX, which it gives to a process on request only.
CpuLevel CpuLevelOfHardware();
// An error if TREFOIL_CPU_LEVEL is set to what is no level's name, which UsedCpuLevel() takes for unset.
absl::Status CheckCpuLevel();
// The same, of the variable's value; null: unset.
absl::StatusOr<CpuLevel> CapCpuLevel(const char* variable, CpuLevel hardware);

// By the used level.
bool CpuHasAvx512();
bool CpuHasAvx512BFloat16();
bool CpuHasAmxBFloat16();
// Either.
bool CpuHasBFloat16();

// Which CPU it is, as far as speed goes: "AMD EPYC 9R14 (00a10f11)", by its name and the number of its family, model and
// stepping.
std::string CpuModel();

// Cores that this process may run on at a time: fewer than the host's where mpirun or Slurm binds it to some.
int CoresAllowed();
// Of them all, or as many as a container, a Slurm step or a systemd unit leaves to its processes together
// (runtime/host/host_limits.h).
int CoresOfHost();

}  // namespace trefoil
