// Planned memory beside what was measured.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/arena.h"

namespace trefoil {

// One rank's, or the largest of several ranks' by purpose:
//
//               planned GiB  real GiB
//   weights           0.001     0.001  exact
//   ...
std::string CompareMemory(const MemoryUse& planned, const MemoryUse& real);

// What a process was when it began to train, and at its highest since.
struct ProcessMemory {
  int64_t before = 0;       // Resident() (runtime/host/process_memory.h)
  int64_t real = 0;         // PeakResident() without `files_since`
  int64_t files_since = 0;  // by how much ResidentFiles() grew
};

//   rank 0's process: planned 54.4 MiB (25.3 MiB before, 27.0 MiB reserved, 2.12 MiB of compiled products),
//   real 54.9 MiB, and 2.05 MiB of files touched since (code, data), which the ranks of a host share
std::string CompareProcess(const MemoryUse& planned, const ProcessMemory& process);

}  // namespace trefoil
