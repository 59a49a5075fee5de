// Threads that outnumber the cores of their host, which nothing forbids and which costs more than it seems: threads of one
// product wait for each other, and who waits may be holding the core.
//
//   const std::vector<std::string> cores = all.GatherStrings(CoresText(device.threads()));
//   if (rank == 0) std::cout << OversubscriptionLine(hosts, cores);
#pragma once

#include <string>
#include <vector>

#include "parallel/collectives/hosts.h"

namespace trefoil {

// What rank 0 needs to know of a rank: its threads and the cores that it may run on ("2 1111": two threads on the first
// four cores).
std::string CoresText(int threads);

// cores[r]: CoresText of rank r. Empty if on every host the ranks' threads are at most the cores that its ranks may run
// on, taken together; otherwise a line that names the first host where they are more,
//   warning   node1: 4 ranks x 2 threads are 8 threads on 2 cores, which take turns: ...
std::string OversubscriptionLine(const Hosts& hosts, const std::vector<std::string>& cores);

}  // namespace trefoil
