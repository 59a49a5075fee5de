// One block of a kernel after another, each CUDA thread a fiber of the calling thread: what the .cu files need to run on
// a CPU. Part of the emulated GPU of tests/cuda_emulation/README.md.
//
// Fibers run until they wait for each other: at a barrier of the block, or where a warp does something together. In what
// order is drawn anew for every block, so that threads that should have waited and did not give other results when the
// kernel runs again. What cannot go on in any order (a barrier that not all threads reach) ends the program.
//
// Threads: RunGrid may run on several threads at once, each with its own fibers. The rest is for code inside kernels.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

namespace trefoil::emulation {

// The running CUDA thread.
struct ThreadState {
  uint3 thread = {}, block = {};
  dim3 block_dim, grid_dim;
  // cp.async: copies of the open group, and the groups that have not been waited for.
  std::vector<std::function<void()>> open_copies;
  std::vector<std::vector<std::function<void()>>> copy_groups;
};
ThreadState& Current();

// Runs `thread` for every thread of the grid. `shared_bytes` of shared memory start as NaNs in every block.
void RunGrid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& thread);
void* BlockMemory();

void SyncThreads();

// What a warp does together: when all its lanes (those that have not left the kernel) have come with their `in`, the
// last of them computes every lane's `out` with `together`; none goes on before. Lanes that meet in different places end
// the program. present[lane]: whether the lane has not left.
struct WarpData {
  static constexpr size_t kBytes = 64;
  alignas(16) std::byte in[32][kBytes], out[32][kBytes];
  bool present[32];
};
using Together = void (*)(WarpData& warp);
void WarpTogether(const void* in, size_t in_bytes, Together together, void* out, size_t out_bytes);

// The same with types: Operation::Run(present, in[32], out[32]).
template <typename Operation>
typename Operation::Out InWarp(const typename Operation::In& in) {
  using In = typename Operation::In;
  using Out = typename Operation::Out;
  static_assert(sizeof(In) <= WarpData::kBytes && sizeof(Out) <= WarpData::kBytes);
  Out out;
  WarpTogether(
      &in, sizeof(In),
      [](WarpData& warp) {
        In all_in[32];
        Out all_out[32];
        for (int lane = 0; lane < 32; ++lane) std::memcpy(&all_in[lane], warp.in[lane], sizeof(In));
        Operation::Run(warp.present, all_in, all_out);
        for (int lane = 0; lane < 32; ++lane) std::memcpy(warp.out[lane], &all_out[lane], sizeof(Out));
      },
      &out, sizeof(Out));
  return out;
}

}  // namespace trefoil::emulation
