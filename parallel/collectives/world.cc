#include "parallel/collectives/world.h"

#include <numeric>

#include "parallel/collectives/transport.h"

namespace trefoil {

std::unique_ptr<Group> World::NewGroupOfAll(Device& device, RankSums sums) {
  std::vector<int> ranks(size());
  std::iota(ranks.begin(), ranks.end(), 0);
  return NewGroup("world", ranks, device, sums);
}

int PlaceInGroup(const std::string& name, const std::vector<int>& ranks, int rank) {
  int place = -1;
  for (size_t i = 0; i < ranks.size(); ++i) {
    CHECK(i == 0 || ranks[i - 1] < ranks[i]) << "group " << name << ": ranks must ascend";
    if (ranks[i] == rank) place = static_cast<int>(i);
  }
  CHECK_GE(place, 0) << "group " << name << " does not contain this rank, " << rank;
  return place;
}

}  // namespace trefoil
