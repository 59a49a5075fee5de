#include "runtime/host/peak.h"

#include <immintrin.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "runtime/host/cpu_features.h"

namespace trefoil {
namespace {

using Clock = std::chrono::steady_clock;

// Each loop does its rounds with enough independent accumulators to hide the latency of a multiply-add, returns the
// FLOPs done, and leaves its result in a volatile so that it cannot be left out. The accumulators start with different
// values, or the compiler could compute one for all.
constexpr int kAccumulators = 12;
using Loop = double (*)(int64_t rounds);

__attribute__((target("avx2,fma"))) double Avx2Loop(int64_t rounds) {
  __m256 sums[kAccumulators];
  for (int i = 0; i < kAccumulators; ++i) sums[i] = _mm256_set1_ps(1.0f + static_cast<float>(i));
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (auto& sum : sums) sum = _mm256_fmadd_ps(sum, a, b);
  }
  volatile float sink = 0;
  for (const auto& sum : sums) sink = sink + _mm256_cvtss_f32(sum);
  return static_cast<double>(rounds) * kAccumulators * 16;
}

__attribute__((target("avx512f"))) double Avx512Loop(int64_t rounds) {
  __m512 sums[kAccumulators];
  for (int i = 0; i < kAccumulators; ++i) sums[i] = _mm512_set1_ps(1.0f + static_cast<float>(i));
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (auto& sum : sums) sum = _mm512_fmadd_ps(sum, a, b);
  }
  volatile float sink = 0;
  for (const auto& sum : sums) sink = sink + _mm512_cvtss_f32(sum);
  return static_cast<double>(rounds) * kAccumulators * 32;
}

__attribute__((target("avx512f,avx512bf16"))) double Avx512Bf16Loop(int64_t rounds) {
  __m512 sums[kAccumulators];
  for (int i = 0; i < kAccumulators; ++i) sums[i] = _mm512_set1_ps(1.0f + static_cast<float>(i));
  const __m512bh a = (__m512bh)_mm512_set1_epi16(0x3c00), b = (__m512bh)_mm512_set1_epi16(0x3c00);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (auto& sum : sums) sum = _mm512_dpbf16_ps(sum, a, b);
  }
  volatile float sink = 0;
  for (const auto& sum : sums) sink = sink + _mm512_cvtss_f32(sum);
  return static_cast<double>(rounds) * kAccumulators * 64;
}

// Four tiles of 16 x 16 sums, two of each operand: the register blocking of a matrix product.
__attribute__((target("amx-tile,amx-bf16"))) double AmxLoop(int64_t rounds) {
  struct alignas(64) TileConfig {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t column_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  alignas(64) static const uint16_t zeros[16 * 32] = {};
  // GCC 12 believes that the intrinsics read 8 bytes of memory, and would leave out the writes of the others.
  asm volatile("" : : "r"(&config), "r"(zeros) : "memory");
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, zeros, 64);
  _tile_loadd(5, zeros, 64);
  _tile_loadd(6, zeros, 64);
  _tile_loadd(7, zeros, 64);
  for (int64_t i = 0; i < rounds; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
  return static_cast<double>(rounds) * 4 * 2 * 16 * 16 * 32;
}

Loop LoopFor(DType dtype) {
  if (dtype == DType::kBFloat16) {
    if (CpuHasAmxBFloat16()) return AmxLoop;
    if (CpuHasAvx512BFloat16()) return Avx512Bf16Loop;
  }
  return CpuHasAvx512() ? Avx512Loop : Avx2Loop;
}

// Best of a few tries: the amounts that `work` returns, again and again on all threads at once, per second.
template <typename Work>
double BestRate(int threads, const Together& together, PeakTime time, const Work& work) {
  together(0);  // begin side by side
  double best = 0;
  for (int attempt = 0; attempt < 4; ++attempt) {
    double amount = 0, rates = 0;
    const Clock::time_point begin = Clock::now(), end = begin + std::chrono::milliseconds(25);
#pragma omp parallel num_threads(threads) reduction(+ : amount, rates)
    {
      const double before = ThreadSeconds();
      do {
        amount += work(omp_get_thread_num());
      } while (Clock::now() < end);
      rates += amount / (ThreadSeconds() - before);
    }
    const double wall = std::chrono::duration<double>(Clock::now() - begin).count();
    best = std::max(best, together(time == PeakTime::kWall ? amount / wall : rates));
  }
  return best;
}

}  // namespace

double ThreadSeconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double MeasurePeakFlops(DType dtype, int threads, const Together& together, PeakTime time) {
  const auto rate_in = [&](DType type) {
    const Loop loop = LoopFor(type);
    return BestRate(threads, together, time, [&](int) { return loop(int64_t{1} << 13); });
  };
  // All ranks measure both, whatever their CPUs have.
  const double float32 = rate_in(DType::kFloat32);
  return dtype == DType::kBFloat16 ? std::max(float32, rate_in(DType::kBFloat16)) : float32;
}

double MeasureMemoryBandwidth(int threads, const Together& together, PeakTime time) {
  constexpr int64_t kElements = int64_t{8} << 20;  // of each thread's two arrays: far beyond its caches
  std::vector<std::vector<float>> a(threads), b(threads);
#pragma omp parallel num_threads(threads)
  {
    const int thread = omp_get_thread_num();
    a[thread].assign(kElements, 1.0f);
    b[thread].assign(kElements, 0.5f);
  }
  return BestRate(threads, together, time, [&](int thread) {
    float* to = a[thread].data();
    const float* from = b[thread].data();
    for (int64_t i = 0; i < kElements; ++i) to[i] += from[i];
    return 3.0 * sizeof(float) * kElements;
  });
}

}  // namespace trefoil
