#include <numeric>

#include "runtime/kernels/cuda/vector.h"

namespace trefoil::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kPositions = 4;  // of one pair, so that its frequency serves for more than one angle

// angles[t] = cosines [half], then sines [half], of the angles of token t's position, in double as on the CPU.
__global__ void __launch_bounds__(kThreads)
    AnglesKernel(const TokenRanges tokens, int half, const RotaryFrequencies frequencies, bool inverse,
                 float* angles) {
  const int i = static_cast<int>(blockIdx.y * kThreads + threadIdx.x);
  if (i >= half) return;
  const double frequency =
      frequencies.Scaled(pow(static_cast<double>(frequencies.theta), -static_cast<double>(i) / half), i);
  const int64_t first = blockIdx.x * int64_t{kPositions}, end = min(tokens.tokens(), first + kPositions);
  for (int64_t t = first; t < end; ++t) {
    double sine, cosine;
    sincos(static_cast<double>(tokens.Position(t)) * frequency, &sine, &cosine);
    angles[t * 2 * half + i] = static_cast<float>(cosine * frequencies.magnitude);
    angles[t * 2 * half + half + i] = static_cast<float>((inverse ? -sine : sine) * frequencies.magnitude);
  }
}

// A block takes a row, a thread a pack of pairs (i, i + half) of one head at a time.
template <typename A, typename T>
__global__ void __launch_bounds__(kMaxRowThreads)
    TurnKernel(T* x, const float* angles, int64_t tokens, int columns, int heads, int half) {
  constexpr int W = A::kWidth;
  T* row = x + int64_t{blockIdx.x} * columns;
  const float* cosines = angles + blockIdx.x % tokens * 2 * half;
  const int head_packs = half / W, packs = heads * head_packs;
#pragma unroll 2
  for (int p = static_cast<int>(threadIdx.x); p < packs; p += static_cast<int>(blockDim.x)) {
    const int head = p / head_packs, i = (p - head * head_packs) * W;
    T* at = row + head * 2 * half + i;
    const Pack<W> a = Load<A>(at), b = Load<A>(at + half);
    const Pack<W> cosine = Load<A>(cosines + i), sine = Load<A>(cosines + half + i);
    Pack<W> turned_a, turned_b;
#pragma unroll
    for (int k = 0; k < W; ++k) {
      turned_a.v[k] = a.v[k] * cosine.v[k] - b.v[k] * sine.v[k];
      turned_b.v[k] = b.v[k] * cosine.v[k] + a.v[k] * sine.v[k];
    }
    Store<A>(at, turned_a);
    Store<A>(at + half, turned_b);
  }
}

}  // namespace

void Rotary(const CudaContext& cuda, const HeadColumns& x, int64_t heads, int64_t head_dim, const TokenRanges& tokens,
            const RotaryFrequencies& frequencies, bool inverse) {
  const int64_t count = tokens.tokens(), half = head_dim / 2;
  if (x.rows.dim(0) == 0) return;
  const Workspace<float> angles(cuda, count * 2 * half);
  Launch(cuda, AnglesKernel, dim3(GridSize(Blocks(count, kPositions)), GridSize(Blocks(half, kThreads))), kThreads, 0,
         tokens, static_cast<int>(half), frequencies, inverse, angles.data());
  WithType(x.rows.dtype(), [&](auto type) {
    using T = decltype(type);
    T* data = x.rows.data<T>() + x.first;
    const int64_t columns = x.rows.dim(1);
    // Packs of every row and head lie where those of the first do.
    const int64_t pitch = std::gcd(half, columns);
    WithAccess<kFullWidth<T>>(pitch, Aligned<kFullWidth<T>>(data), [&](auto access) {
      using A = decltype(access);
      Launch(cuda, TurnKernel<A, T>, GridSize(x.rows.dim(0)), RowThreads(heads * half, A::kWidth), 0, data,
             angles.data(), count, RowIndex(columns), static_cast<int>(heads), static_cast<int>(half));
    });
  });
}

}  // namespace trefoil::cuda
