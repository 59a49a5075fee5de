#include "training/rank_figures.h"

#include <algorithm>
#include <vector>

namespace trefoil {

RanksSummary Summarise(std::span<const double> packed, const Group& group) {
  const size_t each = RankFigures().Packed().size(), ranks = packed.size() / each;
  CHECK_EQ(ranks, static_cast<size_t>(group.size()));
  const auto of_all = [&](size_t figure) {
    std::vector<double> values;
    for (size_t rank = 0; rank < ranks; ++rank) values.push_back(packed[rank * each + figure]);
    return values;
  };
  const auto largest = [&](size_t figure) { return std::ranges::max(of_all(figure)); };
  std::vector<double> work = of_all(0);
  RanksSummary summary;
  summary.slowest = static_cast<int>(std::ranges::max_element(work) - work.begin());
  summary.slowest_host = group.membership().hosts->of(group.membership().ranks[static_cast<size_t>(summary.slowest)]);
  summary.slowest_work_seconds = work[static_cast<size_t>(summary.slowest)];
  std::ranges::nth_element(work, work.begin() + static_cast<std::ptrdiff_t>(ranks / 2));
  summary.median_work_seconds = work[ranks / 2];
  summary.data_seconds = largest(1);
  summary.reserved_bytes = largest(2);
  summary.resident_bytes = largest(3);
  return summary;
}

}  // namespace trefoil
