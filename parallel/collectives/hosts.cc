#include "parallel/collectives/hosts.h"

#include <glog/logging.h>

#include <map>

namespace trefoil {

Hosts::Hosts(std::vector<std::string> names) : names_(std::move(names)), ranks_(static_cast<int>(names_.size())) {
  CHECK(!names_.empty());
}

std::vector<std::pair<std::string, std::vector<int>>> Hosts::RanksByHost() const {
  std::vector<std::pair<std::string, std::vector<int>>> hosts;
  std::map<std::string, size_t> places;
  for (int rank = 0; rank < ranks_; ++rank) {
    const auto [place, fresh] = places.emplace(of(rank), hosts.size());
    if (fresh) hosts.emplace_back(of(rank), std::vector<int>());
    hosts[place->second].second.push_back(rank);
  }
  return hosts;
}

int Hosts::LocalRank(int rank) const {
  int lower = 0;
  for (int other = 0; other < rank; ++other) lower += of(other) == of(rank) ? 1 : 0;
  return lower;
}

int Hosts::LocalSize(int rank) const {
  int count = 0;
  for (int other = 0; other < ranks_; ++other) count += of(other) == of(rank) ? 1 : 0;
  return count;
}

}  // namespace trefoil
