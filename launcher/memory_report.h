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

// Of this process, bytes: resident now, and the most since the start or ResetPeakResident.
int64_t Resident();
int64_t PeakResident();
void ResetPeakResident();

}  // namespace trefoil
