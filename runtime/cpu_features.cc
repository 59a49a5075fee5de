#include "runtime/cpu_features.h"

#include <cpuid.h>
#include <glog/logging.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace trefoil {

bool CpuHasAvx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool CpuHasAmxBFloat16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__builtin_cpu_supports("avx512f") || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  const bool amx_bf16 = (d & (1u << 22)) != 0, amx_tile = (d & (1u << 24)) != 0;
  // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
  return amx_bf16 && amx_tile && syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}

bool CpuHasAvx512BFloat16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __builtin_cpu_supports("avx512f") && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & (1u << 5)) != 0;
}

bool CpuHasBFloat16() { return CpuHasAvx512BFloat16() || CpuHasAmxBFloat16(); }

int CoresAllowed() {
  cpu_set_t cores;
  PCHECK(sched_getaffinity(0, sizeof(cores), &cores) == 0);
  return CPU_COUNT(&cores);
}

int CoresOfHost() { return static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)); }

}  // namespace trefoil
