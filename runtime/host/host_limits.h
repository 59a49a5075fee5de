// How much of its host this process may use: a container, a Slurm step or a systemd unit leaves it less memory and fewer
// cores than there are. Linux calls them control groups and tells of them in files, of version 1 or 2:
//
//   docker run --memory 16g --cpus 2 ...     on a host of 512 GiB and 64 cores
//   ReadHostLimits()                         {.memory_bytes = 16 GiB, .available_bytes = about 16 GiB, .cores = 2}
//
// A group's limits hold for all groups below it together, so each is the least of what this process's group and all groups
// around it allow, as far as they can be seen from here. Who shares them is not known: every process below counts.
#pragma once

#include <cstdint>
#include <string>

namespace trefoil {

struct HostLimits {
  int64_t memory_bytes = 0;  // of the host, or the least limit; 0: unknown
  // What this and other processes could still take before the system kills one: the least of the host's MemAvailable and
  // of limit less usage. Pages of files count as free in both, as the system drops them first. 0: unknown; else at least
  // a page.
  int64_t available_bytes = 0;
  int cores = 0;  // that run at a time: of the quota of time, rounded up, and of the set of cores; 0: as many as there are
};

// `root` is put before every path that is read: for tests.
HostLimits ReadHostLimits(const std::string& root = "");

}  // namespace trefoil
