// Which GPU each rank computes on: of those that it sees, the first that no lower rank of its host has taken. So ranks that
// all see all of a host's GPUs take them in order, and ranks that Slurm has bound to one each (--gpus-per-task=1, or a
// wrapper that sets CUDA_VISIBLE_DEVICES) take that one, which each of them knows as number 0. GPUs are told apart by their
// UUIDs.
//
//   TREFOIL_ASSIGN_OR_RETURN(const int ordinal, ChooseGpu(world.hosts(), world.rank(), seen, /*may_share=*/false));
//
// A pure function: every rank of a host finds the same choices.
#pragma once

#include <string>
#include <vector>

#include "parallel/collectives/hosts.h"
#include "runtime/status.h"

namespace trefoil {

// The number of `rank`'s GPU among seen[rank]. seen[r]: the UUIDs that rank r of the job sees, in the order of the CUDA
// runtime; empty where it could not look. may_share: where no GPU is left, one that others have; else that is an error.
absl::StatusOr<int> ChooseGpu(const Hosts& hosts, int rank, const std::vector<std::vector<std::string>>& seen,
                              bool may_share);

}  // namespace trefoil
