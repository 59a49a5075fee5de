#include "runtime/host/cpu_features.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

namespace trefoil {
namespace {

TEST(CpuLevel, IsTheHardwaresOrTheLowerOneThatTheVariableNames) {
  const auto cap = [](const char* variable, CpuLevel hardware) { return *CapCpuLevel(variable, hardware); };
  for (const CpuLevel hardware : {CpuLevel::kAvx2, CpuLevel::kAvx512, CpuLevel::kAvx512Bf16, CpuLevel::kAmx}) {
    EXPECT_EQ(cap(nullptr, hardware), hardware);
    EXPECT_EQ(cap("", hardware), hardware);
    EXPECT_EQ(cap("AVX2", hardware), CpuLevel::kAvx2);
    EXPECT_EQ(cap("AMX", hardware), hardware);
  }
  EXPECT_EQ(cap("AVX512", CpuLevel::kAmx), CpuLevel::kAvx512);
  EXPECT_EQ(cap("AVX512_BF16", CpuLevel::kAmx), CpuLevel::kAvx512Bf16);
  EXPECT_EQ(cap("AVX512_BF16", CpuLevel::kAvx512), CpuLevel::kAvx512);
}

TEST(CpuLevel, NamesWhatTheVariableMayBe) {
  const absl::Status status = CapCpuLevel("avx9", CpuLevel::kAvx512).status();
  EXPECT_EQ(status.message(),
            "TREFOIL_CPU_LEVEL: 'avx9', must be one of AVX2, AVX512, AVX512_BF16, AMX, or unset; this CPU has AVX512");
}

// What kernels ask for follows.
TEST(CpuLevel, DecidesWhatTheCpuHas) {
  const CpuLevel hardware = CpuLevelOfHardware();
  for (const CpuLevel level : {CpuLevel::kAvx2, CpuLevel::kAvx512, CpuLevel::kAvx512Bf16, CpuLevel::kAmx}) {
    setenv("TREFOIL_CPU_LEVEL", Name(level), 1);
    EXPECT_TRUE(CheckCpuLevel().ok());
    EXPECT_EQ(UsedCpuLevel(), std::min(level, hardware));
    EXPECT_EQ(CpuHasAvx512(), std::min(level, hardware) >= CpuLevel::kAvx512);
    EXPECT_EQ(CpuHasAvx512BFloat16(), std::min(level, hardware) >= CpuLevel::kAvx512Bf16);
    EXPECT_EQ(CpuHasAmxBFloat16(), std::min(level, hardware) == CpuLevel::kAmx);
  }
  setenv("TREFOIL_CPU_LEVEL", "SSE", 1);
  EXPECT_FALSE(CheckCpuLevel().ok());
  EXPECT_EQ(UsedCpuLevel(), hardware);
  unsetenv("TREFOIL_CPU_LEVEL");
  EXPECT_TRUE(CheckCpuLevel().ok());
  EXPECT_EQ(UsedCpuLevel(), hardware);
}

}  // namespace
}  // namespace trefoil
