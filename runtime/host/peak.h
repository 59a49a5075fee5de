// What this machine can do at best, measured: the ceilings that speeds are compared with.
//
// Both take about a tenth of a second, use `threads` threads, and return the best of a few tries of a fixed time: other
// work on the machine makes single tries worse, never better.
//
// Several ranks that share a machine measure what they reach together: `together` is called after each try with this
// rank's rate and returns the sum of all ranks' when all have come, so that their tries run side by side.
//
//   const double peak = MeasurePeakFlops(DType::kFloat32, 2, [&](double rate) { return all.AllReduceSum(rate); });
#pragma once

#include <functional>

#include "runtime/dtype.h"

namespace trefoil {

using Together = std::function<double(double rate)>;
inline double Alone(double rate) { return rate; }

// What the seconds of a rate are. kThreads: those in which each thread had a core, so that other programs take nothing
// away; only where there are no more threads than cores, as each then counts as a whole one.
enum class PeakTime { kWall, kThreads };

// FLOP/s of multiply-adds on registers only, in the widest instructions the CPU has: AVX2, AVX-512, or for bfloat16 AMX
// tiles or AVX-512 BF16 if they are the faster ones: bf16 products may also be made of float32's
// (runtime/host/cpu_features.h).
double MeasurePeakFlops(DType dtype, int threads, const Together& together = Alone, PeakTime time = PeakTime::kWall);

// Bytes per second of adding one large array to another, reads and writes counted.
double MeasureMemoryBandwidth(int threads, const Together& together = Alone, PeakTime time = PeakTime::kWall);

// Seconds that this thread has had a core, from some moment on.
double ThreadSeconds();

}  // namespace trefoil
