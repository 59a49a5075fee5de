#include "launcher/cluster/hosts_report.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <set>
#include <vector>

#include "parallel/mesh.h"

namespace trefoil {
namespace {

constexpr size_t kShown = 16;  // hosts by name

// "0-3, 6" of ascending numbers.
std::string Ranges(const std::vector<int>& numbers) {
  std::vector<std::string> ranges;
  for (size_t begin = 0; begin < numbers.size();) {
    size_t end = begin + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    const int first = numbers[begin], last = numbers[end - 1];
    ranges.push_back(first == last ? absl::StrCat(first) : absl::StrCat(first, "-", last));
    begin = end;
  }
  return absl::StrJoin(ranges, ", ");
}

}  // namespace

std::string HostLines(const ParallelConfig& parallel, const Hosts& hosts) {
  const auto by_host = hosts.RanksByHost();
  if (by_host.size() == 1) return "";
  std::vector<std::string> texts;
  size_t fewest = by_host[0].second.size();
  for (const auto& [host, ranks] : by_host) {
    if (texts.size() < kShown) texts.push_back(absl::StrCat(host, ranks.size() == 1 ? ": rank " : ": ranks ", Ranges(ranks)));
    fewest = std::min(fewest, ranks.size());
  }
  if (by_host.size() > kShown) texts.push_back(absl::StrCat("and ", by_host.size() - kShown, " more hosts"));
  std::string lines = absl::StrCat("hosts     ", absl::StrJoin(texts, "; "), "\n");

  const MeshSizes sizes(parallel);
  int groups = 0;
  std::string example;
  for (int rank = 0; rank < sizes.ranks(); ++rank) {
    const std::vector<int> group = Mesh(sizes, rank).Group(Axis::kTensor);
    if (group.front() != rank) continue;
    std::set<std::string> names;
    for (const int member : group) names.insert(hosts.of(member));
    if (names.size() > 1 && groups++ == 0) example = absl::StrCat("ranks ", Ranges(group), " on ", absl::StrJoin(names, ", "));
  }
  if (groups == 0) return lines;
  absl::StrAppend(&lines, "warning   ", groups, groups == 1 ? " tensor group lies" : " tensor groups lie",
                  " across hosts (", example, "), so that each layer's sums go over the network; ");
  const bool fits = std::all_of(by_host.begin(), by_host.end(),
                                [&](const auto& host) { return host.second.size() % static_cast<size_t>(parallel.tensor()) == 0; });
  if (fits) {
    absl::StrAppend(&lines, "mpirun --map-by slot or srun --distribution=block puts neighbours on one host\n");
  } else {
    absl::StrAppend(&lines, "give each host a multiple of parallel.tensor ", parallel.tensor(),
                    " ranks, or take a tensor of at most ", fewest, "\n");
  }
  return lines;
}

}  // namespace trefoil
