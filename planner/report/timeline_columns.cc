#include "planner/report/timeline_columns.h"

#include <glog/logging.h>

#include <algorithm>

namespace trefoil {
namespace {

// For each value what `choose` takes of it and its neighbours up to `reach` away.
template <typename Choose>
std::vector<int64_t> Nearby(const std::vector<int64_t>& values, std::ptrdiff_t reach, const Choose& choose) {
  std::vector<int64_t> chosen;
  const auto size = static_cast<std::ptrdiff_t>(values.size());
  for (std::ptrdiff_t i = 0; i < size; ++i) {
    const auto from = values.begin() + std::max<std::ptrdiff_t>(0, i - reach);
    chosen.push_back(*choose(from, values.begin() + std::min(size, i + reach + 1)));
  }
  return chosen;
}

}  // namespace

std::vector<int64_t> MemoryByColumn(const std::vector<Timeline::MemoryPoint>& memory, double seconds, size_t columns,
                                    int dip) {
  CHECK_GT(columns, 0u);
  CHECK_GT(seconds, 0);
  std::vector<int64_t> highest(columns);
  size_t column = 0;
  int64_t bytes = 0;
  for (const Timeline::MemoryPoint& point : memory) {
    const double at = std::max(0.0, point.seconds / seconds) * static_cast<double>(columns);
    const size_t last = std::min(columns - 1, static_cast<size_t>(at));
    for (; column < last; ++column) highest[column] = std::max(highest[column], bytes);
    bytes = point.bytes;
    highest[last] = std::max(highest[last], bytes);
  }
  for (; column < columns; ++column) highest[column] = std::max(highest[column], bytes);
  using Iterator = std::vector<int64_t>::const_iterator;
  const auto most = [](Iterator begin, Iterator end) { return std::max_element(begin, end); };
  const auto least = [](Iterator begin, Iterator end) { return std::min_element(begin, end); };
  return Nearby(Nearby(highest, dip / 2, most), dip / 2, least);
}

std::vector<double> NeighbourMeans(const std::vector<double>& values, int reach) {
  std::vector<double> means;
  const int size = static_cast<int>(values.size());
  for (int i = 0; i < size; ++i) {
    const int from = std::max(0, i - reach), to = std::min(size - 1, i + reach);
    double sum = 0;
    for (int j = from; j <= to; ++j) sum += values[static_cast<size_t>(j)];
    means.push_back(sum / (to - from + 1));
  }
  return means;
}

}  // namespace trefoil
