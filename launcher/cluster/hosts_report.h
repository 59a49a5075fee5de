// Which ranks are on which hosts, for people, and what that costs.
#pragma once

#include <string>

#include "parallel/collectives/hosts.h"
#include "parallel/parallel.pb.h"
#include "training/run.pb.h"

namespace trefoil {

// Empty for one host. Otherwise a line of the summary,
//   hosts     node1: ranks 0-3; node2: ranks 4-7
// and, if ranks of a tensor group are on several hosts, one that says so and names the options that put them together: the
// sums of each layer would go over the network.
std::string HostLines(const ParallelConfig& parallel, const Hosts& hosts);

// Where a run saves, if not in a folder that all hosts share:
//   saves     in each host's own /local/run, 2 copies, each host's also on the one behind it (node1 > node2 > node1)
//   snapshots every 10 steps in /dev/shm, 2 copies, ...: at most 1.2 GiB of a host's memory
std::string SavesLines(const RunConfig& config, const Hosts& hosts);

}  // namespace trefoil
