#include "launcher/cluster/gpu_choice.h"

#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <map>
#include <set>

namespace trefoil {
namespace {

std::vector<int> RanksBeside(const Hosts& hosts, int rank) {
  for (auto& [name, ranks] : hosts.RanksByHost()) {
    if (name == hosts.of(rank)) return ranks;
  }
  LOG(FATAL) << "no host has rank " << rank;
}

std::string Count(size_t count, const char* of) { return absl::StrCat(count, " ", of, count == 1 ? "" : "s"); }

}  // namespace

absl::StatusOr<int> ChooseGpu(const Hosts& hosts, int rank, const std::vector<std::vector<std::string>>& seen,
                              bool may_share) {
  const std::vector<int> beside = RanksBeside(hosts, rank);
  std::map<std::string, int> holders;  // by UUID
  for (const int other : beside) {
    const std::vector<std::string>& gpus = seen[static_cast<size_t>(other)];
    size_t free = 0;
    while (free < gpus.size() && holders.contains(gpus[free])) ++free;
    if (free < gpus.size()) {
      holders[gpus[free]] = other;
      if (other == rank) return static_cast<int>(free);
    }
    if (other == rank) break;
  }
  const std::vector<std::string>& own = seen[static_cast<size_t>(rank)];
  CHECK(!own.empty()) << "rank " << rank << " sees no GPU";
  if (may_share) return hosts.LocalRank(rank) % static_cast<int>(own.size());

  std::set<std::string> all;
  for (const int other : beside) all.insert(seen[static_cast<size_t>(other)].begin(), seen[static_cast<size_t>(other)].end());
  return absl::FailedPreconditionError(absl::StrCat(
      "runtime.device: CUDA: ranks ", holders[own.front()], " and ", rank, " would both hold ", own.front(), " of host ",
      hosts.of(rank), ", whose ", Count(beside.size(), "rank"), " see ", Count(all.size(), "GPU"), " together; ",
      all.size() < beside.size()
          ? absl::StrCat("start at most ", all.size(), " a host")
          : std::string("let each rank see one of its own (Slurm: --gpus-per-task=1), or all see all"),
      ", or, for testing, set runtime.allow_shared_device and runtime.messages: HOST"));
}

}  // namespace trefoil
