#include "runtime/host/process_memory.h"

#include <fstream>
#include <string>

namespace trefoil {
namespace {

// A "VmRSS:  1234 kB" line of /proc/self/status, in bytes; 0 if it is not there.
int64_t StatusBytes(const std::string& field) {
  std::ifstream lines("/proc/self/status");
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(field, 0) == 0) return std::stoll(line.substr(field.size())) << 10;
  }
  return 0;
}

}  // namespace

int64_t Resident() { return StatusBytes("VmRSS:"); }
int64_t PeakResident() { return StatusBytes("VmHWM:"); }
int64_t ResidentFiles() { return StatusBytes("RssFile:"); }
void ResetPeakResident() { std::ofstream("/proc/self/clear_refs") << "5"; }

}  // namespace trefoil
