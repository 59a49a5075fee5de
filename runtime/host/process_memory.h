// What this process takes of the host's memory, by the system's own count.
#pragma once

#include <cstdint>

namespace trefoil {

// Bytes: resident now; the most since the start or ResetPeakResident; and of what is resident now, pages of files: code
// of the program and its libraries, mapped data. Those come in when they are first touched, all processes of a host
// share them, and the system takes them back when it needs memory.
int64_t Resident();
int64_t PeakResident();
int64_t ResidentFiles();
void ResetPeakResident();

}  // namespace trefoil
