// What every rank of a job must have alike, such as its command line, its corpus or its program: each rank finds out for
// itself, and all compare.
//
//   TREFOIL_RETURN_IF_ERROR(CheckSameOnRanks(all, {{"data.train", "4 files"}, {"  train-00000", "1200 tokens"}}));
//
// gives every rank, where they differ,
//   data.train: rank 3 on node7 has 3 files, rank 0 on node1 has 4 files; every rank must have the same
//
// The first rank that differs is named, with the first of its facts that does. Cost: a gather of 4 bytes a rank; the facts
// themselves travel only where they differ, from two ranks.
//
// Threads: the rank's main thread; every rank of the group makes the same call.
#pragma once

#include <string>
#include <vector>

#include "parallel/collectives/group.h"
#include "runtime/status.h"

namespace trefoil {

struct RankFact {
  std::string name;
  std::string value;  // for comparing and for people; empty: "nothing"
};

// FailedPrecondition, the same on every rank, if ranks differ. A rank without facts has no part in what is compared;
// rank 0 has some. `remedy`: what else to do about it, for the end of the
// message; may be empty.
absl::Status CheckSameOnRanks(Group& all, const std::vector<RankFact>& facts, const std::string& remedy = "");

}  // namespace trefoil
