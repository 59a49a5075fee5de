// Which flags the command line itself gives, as opposed to those that have their defaults.
#pragma once

#include <string>
#include <vector>

#include "parallel/same_on_ranks.h"

namespace trefoil {

// Whether --NAME is given, be it with its default value.
bool IsGiven(const char* name);

// The command line of this rank, for CheckSameOnRanks: flags of this program's commands (not glog's), sorted, then `words`,
// such as --sets, which are no gflags.
std::vector<RankFact> CommandLineFacts(const std::vector<std::string>& words);

}  // namespace trefoil
