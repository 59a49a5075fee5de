#include "runtime/host/cpu_features.h"

#include <cpuid.h>
#include <glog/logging.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "runtime/host/host_limits.h"

namespace trefoil {

namespace {

constexpr char kVariable[] = "TREFOIL_CPU_LEVEL";

bool HasAvx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool HasAvx512BFloat16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & (1u << 5)) != 0;
}

bool HasAmxBFloat16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  const bool amx_bf16 = (d & (1u << 22)) != 0, amx_tile = (d & (1u << 24)) != 0;
  // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
  return amx_bf16 && amx_tile && syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}

}  // namespace

const char* Name(CpuLevel level) {
  constexpr const char* kNames[] = {"AVX2", "AVX512", "AVX512_BF16", "AMX"};
  return kNames[static_cast<size_t>(level)];
}

CpuLevel CpuLevelOfHardware() {
  if (!HasAvx512()) return CpuLevel::kAvx2;
  if (!HasAvx512BFloat16()) return CpuLevel::kAvx512;
  return HasAmxBFloat16() ? CpuLevel::kAmx : CpuLevel::kAvx512Bf16;
}

absl::StatusOr<CpuLevel> CapCpuLevel(const char* variable, CpuLevel hardware) {
  if (variable == nullptr || *variable == 0) return hardware;
  std::string names;
  for (const CpuLevel level : {CpuLevel::kAvx2, CpuLevel::kAvx512, CpuLevel::kAvx512Bf16, CpuLevel::kAmx}) {
    if (std::string_view(variable) == Name(level)) return std::min(level, hardware);
    names += (names.empty() ? "" : ", ") + std::string(Name(level));
  }
  return absl::InvalidArgumentError(std::string(kVariable) + ": '" + variable + "', must be one of " + names +
                                    ", or unset; this CPU has " + Name(hardware));
}

absl::Status CheckCpuLevel() { return CapCpuLevel(std::getenv(kVariable), CpuLevelOfHardware()).status(); }

CpuLevel UsedCpuLevel() {
  const CpuLevel hardware = CpuLevelOfHardware();
  return CapCpuLevel(std::getenv(kVariable), hardware).value_or(hardware);
}

bool CpuHasAvx512() { return UsedCpuLevel() >= CpuLevel::kAvx512; }
bool CpuHasAvx512BFloat16() { return UsedCpuLevel() >= CpuLevel::kAvx512Bf16; }
bool CpuHasAmxBFloat16() { return UsedCpuLevel() >= CpuLevel::kAmx; }
bool CpuHasBFloat16() { return CpuHasAvx512BFloat16(); }

std::string CpuModel() {
  unsigned words[12] = {};
  for (unsigned i = 0; i < 3; ++i) {
    unsigned* part = words + 4 * i;
    __get_cpuid(0x80000002 + i, part, part + 1, part + 2, part + 3);
  }
  std::string name(reinterpret_cast<const char*>(words), sizeof(words));
  name.erase(std::min(name.find('\0'), name.size()));
  name.erase(0, std::min(name.find_first_not_of(' '), name.size()));
  name.erase(name.find_last_not_of(' ') + 1);
  unsigned a = 0, b = 0, c = 0, d = 0;
  __get_cpuid(1, &a, &b, &c, &d);
  char number[12];
  std::snprintf(number, sizeof(number), " (%08x)", a);
  return name + number;
}

int CoresAllowed() {
  cpu_set_t cores;
  PCHECK(sched_getaffinity(0, sizeof(cores), &cores) == 0);
  return std::min(CPU_COUNT(&cores), CoresOfHost());
}

int CoresOfHost() {
  const auto online = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  const int left = ReadHostLimits().cores;
  return left > 0 ? std::min(left, online) : online;
}

}  // namespace trefoil
