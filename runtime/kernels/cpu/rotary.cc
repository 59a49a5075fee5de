#include <cmath>

#include "runtime/kernels/cpu/vector.h"

namespace trefoil::cpu {
namespace {

template <typename T>
void TurnHead(T* head, const float* cosine, const float* sine, int64_t half) {
#pragma omp simd
  for (int64_t i = 0; i < half; ++i) {
    const float a = static_cast<float>(head[i]), b = static_cast<float>(head[i + half]);
    Store(head[i], a * cosine[i] - b * sine[i]);
    Store(head[i + half], b * cosine[i] + a * sine[i]);
  }
}

}  // namespace

void Rotary(const CpuContext& cpu, const HeadColumns& x, int64_t heads, int64_t head_dim, const TokenRanges& tokens,
            const RotaryFrequencies& frequencies, bool inverse) {
  const int64_t count = tokens.tokens(), half = head_dim / 2;
  if (x.rows.dim(0) == 0) return;
  // Row t: cosines, then sines, of token t's angles.
  const Workspace table(cpu, count * 2 * half);
  float* angles = table.data();
  ParallelBlocks(cpu, count, RowGrain(32 * half), [=, &tokens, &frequencies](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < half; ++i) {
      const double frequency = frequencies.Scaled(
          std::pow(static_cast<double>(frequencies.theta), -static_cast<double>(i) / static_cast<double>(half)), i);
      for (int64_t t = begin; t < end; ++t) {
        const double angle = static_cast<double>(tokens.Position(t)) * frequency;
        const double sine = std::sin(angle) * frequencies.magnitude;
        angles[t * 2 * half + i] = static_cast<float>(std::cos(angle) * frequencies.magnitude);
        angles[t * 2 * half + half + i] = static_cast<float>(inverse ? -sine : sine);
      }
    }
  });
  WithType(x.rows.dtype(), [&](auto type) {
    using T = decltype(type);
    T* data = x.rows.data<T>() + x.first;
    const int64_t columns = x.rows.dim(1);
    ParallelBlocks(cpu, x.rows.dim(0), RowGrain(2 * half * heads), [=](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const float* cosine = angles + row % count * 2 * half;
        for (int64_t h = 0; h < heads; ++h) TurnHead(data + row * columns + h * 2 * half, cosine, cosine + half, half);
      }
    });
  });
}

}  // namespace trefoil::cpu
