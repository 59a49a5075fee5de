#include "launcher/cluster/hosts_report.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <set>
#include <vector>

#include "parallel/mesh.h"
#include "runtime/number_text.h"
#include "training/saving/checkpoint_space.h"
#include "training/saving/resume.h"

namespace trefoil {
namespace {

constexpr size_t kShown = 16;  // hosts by name

}  // namespace

std::string HostLines(const ParallelConfig& parallel, const Hosts& hosts) {
  const auto by_host = hosts.RanksByHost();
  if (by_host.size() == 1) return "";
  std::vector<std::string> texts;
  size_t fewest = by_host[0].second.size();
  for (const auto& [host, ranks] : by_host) {
    if (texts.size() < kShown) texts.push_back(absl::StrCat(host, ranks.size() == 1 ? ": rank " : ": ranks ", RangesText(ranks)));
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
    if (names.size() > 1 && groups++ == 0) example = absl::StrCat("ranks ", RangesText(group), " on ", absl::StrJoin(names, ", "));
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

std::string SavesLines(const RunConfig& config, const Hosts& hosts) {
  const CheckpointConfig& checkpoint = config.training().checkpoint();
  std::vector<std::string> ring;
  for (const auto& [host, ranks] : hosts.RanksByHost()) ring.push_back(host);
  const auto most = static_cast<int>(ring.size());
  const auto copies_text = [&](int copies) {
    if (copies == 1) return std::string("one copy");
    const size_t shown = std::min(ring.size(), kShown);
    return absl::StrCat(copies, " copies, each host's also on the ", copies == 2 ? "one" : absl::StrCat(copies - 1),
                        " behind it (", absl::StrJoin(ring.begin(), ring.begin() + static_cast<std::ptrdiff_t>(shown), " > "),
                        shown < ring.size() ? " > ..." : "", " > ", ring.front(), ")");
  };
  std::string lines;
  if (!checkpoint.folder().empty()) {
    absl::StrAppend(&lines, "saves     in each host's own ", checkpoint.folder(), ", ",
                    copies_text(CopiesOnDisk(checkpoint, most)), "\n");
  }
  if (checkpoint.every_steps_in_memory() > 0 && checkpoint.writing() == CheckpointConfig::BACKGROUND) {
    const auto ranks = static_cast<int64_t>(hosts.size());
    const int64_t of_rank = SnapshotBytesOfRank(config, ranks, most);
    int64_t fullest = 0;
    for (const auto& [host, members] : hosts.RanksByHost()) {
      fullest = std::max(fullest, static_cast<int64_t>(members.size()) * of_rank);
    }
    absl::StrAppend(&lines, "snapshots every ", checkpoint.every_steps_in_memory(), " steps in ", checkpoint.memory_folder(),
                    ", ", copies_text(CopiesInMemory(most)), ": at most ", BytesText(fullest), " of a host's memory\n");
  }
  return lines;
}

}  // namespace trefoil
