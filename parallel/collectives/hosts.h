// The host that each rank of a job runs on, for messages and for what should stay within a host.
//
//   hosts.of(3);               // "node7"
//   hosts.RanksByHost();       // {{"node6", {0, 1}}, {"node7", {2, 3}}}: by the first rank of each
//
// Threads: immutable.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace trefoil {

class Hosts {
 public:
  // All of `ranks` ranks on one host.
  Hosts(std::string name, int ranks) : names_({std::move(name)}), ranks_(ranks) {}
  // names[r]: of rank r. Not empty.
  explicit Hosts(std::vector<std::string> names);

  int size() const { return ranks_; }
  const std::string& of(int rank) const { return names_[names_.size() == 1 ? 0 : static_cast<size_t>(rank)]; }
  // Hosts in the order of their first ranks, each with its ranks.
  std::vector<std::pair<std::string, std::vector<int>>> RanksByHost() const;
  // Of the ranks on `rank`'s host: how many have a lower number, and how many there are.
  int LocalRank(int rank) const;
  int LocalSize(int rank) const;

 private:
  std::vector<std::string> names_;  // one, or one a rank
  int ranks_;
};

}  // namespace trefoil
