#include "launcher/prediction/batches.h"

#include <algorithm>
#include <numeric>

#include "launcher/report/progress.h"

namespace trefoil {

absl::Status InBatches(const std::string& label, const char* unit, std::span<const int64_t> lengths, int64_t batch,
                       const std::function<absl::Status(std::span<const size_t> numbers)>& run) {
  std::vector<size_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return lengths[a] > lengths[b]; });
  ProgressBar bar(label, std::accumulate(lengths.begin(), lengths.end(), int64_t{0}), 1, {.name = unit, .size = 1});
  for (size_t begin = 0; begin < order.size(); begin += static_cast<size_t>(batch)) {
    const size_t end = std::min(order.size(), begin + static_cast<size_t>(batch));
    const std::span<const size_t> numbers = std::span(order).subspan(begin, end - begin);
    TREFOIL_RETURN_IF_ERROR(run(numbers));
    int64_t done = 0;
    for (const size_t number : numbers) done += lengths[number];
    bar.Add(done);
  }
  bar.Finish();
  return absl::OkStatus();
}

}  // namespace trefoil
