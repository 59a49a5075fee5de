// The device that tests run on, and the seed of their random inputs: what tests/gpu_check says in the environment.
//
//   TREFOIL_TEST_DEVICE=cuda   GPU 0; else the CPU
//   TREFOIL_TEST_ATTENTION=CUDNN|CUDNN_DETERMINISTIC   there, not our own kernels
//   TREFOIL_TEST_SEED=N        other random inputs than with 0, the default
#pragma once

#include <cstdint>
#include <memory>

#include "runtime/device.h"

namespace trefoil {

bool OnGpu();
// Whether two runs must agree to the bit: not with cuDNN's faster attention.
bool RunsRepeat();
// A CPU device of so many threads, or the GPU.
std::unique_ptr<Device> NewTestDevice(int cpu_threads = 1);
// To be mixed into the seed of every random input.
uint64_t TestSeed();

}  // namespace trefoil
