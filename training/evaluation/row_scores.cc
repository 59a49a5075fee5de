#include "training/evaluation/row_scores.h"

#include <glog/logging.h>

#include <algorithm>
#include <limits>
#include <numeric>

namespace trefoil {

std::vector<std::vector<size_t>> RowBatches(std::span<const TextRow> rows, int64_t batch_tokens) {
  std::vector<size_t> order(rows.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return rows[a].length() > rows[b].length(); });
  std::vector<std::vector<size_t>> batches;
  for (size_t begin = 0; begin < order.size();) {
    const int64_t fit = std::max<int64_t>(1, batch_tokens / rows[order[begin]].length());
    const size_t end = std::min(order.size(), begin + static_cast<size_t>(fit));
    batches.emplace_back(order.begin() + static_cast<ptrdiff_t>(begin), order.begin() + static_cast<ptrdiff_t>(end));
    begin = end;
  }
  return batches;
}

Batch BatchOfRows(std::span<const TextRow> rows, std::span<const size_t> numbers, int64_t length) {
  const Shape shape = {static_cast<int64_t>(numbers.size()), length};
  Batch batch = {.samples = shape[0], .length = length};
  batch.inputs = HostTensor::Zeros(DType::kInt32, shape);
  batch.targets = HostTensor::Zeros(DType::kInt32, shape);
  for (size_t i = 0; i < numbers.size(); ++i) {
    const std::vector<int32_t>& ids = rows[numbers[i]].ids;
    const auto at = static_cast<ptrdiff_t>(i) * length;
    std::copy(ids.begin(), ids.end() - 1, batch.inputs.values<int32_t>().begin() + at);
    std::copy(ids.begin() + 1, ids.end(), batch.targets.values<int32_t>().begin() + at);
  }
  return batch;
}

std::vector<RowScore> ScoreRows(Predictor& predictor, Group& all, std::span<const TextRow> rows, int64_t batch_tokens,
                                const std::function<void(int64_t tokens)>& done) {
  // Of each row a number that is below all that there are, where another copy has it.
  std::vector<double> numbers(2 * rows.size(), std::numeric_limits<double>::lowest());
  const std::vector<std::vector<size_t>> batches = RowBatches(rows, batch_tokens);
  for (size_t b = static_cast<size_t>(predictor.copy()); b < batches.size();
       b += static_cast<size_t>(predictor.copies())) {
    const int64_t length = rows[batches[b].front()].length();
    const std::vector<TokenScore> scores = predictor.Score(BatchOfRows(rows, batches[b], length));
    int64_t tokens = 0;
    for (size_t i = 0; i < batches[b].size(); ++i) {
      const TextRow& row = rows[batches[b][i]];
      RowScore score;
      const auto end = scores.begin() + static_cast<ptrdiff_t>(i) * length + row.length();
      for (auto token = end - row.scored; token != end; ++token) {
        score.log_probability += token->log_probability;
        score.likeliest = score.likeliest && token->likeliest;
      }
      numbers[2 * batches[b][i]] = score.log_probability;
      numbers[2 * batches[b][i] + 1] = score.likeliest ? 1 : 0;
      tokens += row.length();
    }
    if (done) done(tokens);
  }
  if (!numbers.empty()) all.AllReduceMax(std::span(numbers));
  std::vector<RowScore> scores;
  for (size_t i = 0; i < rows.size(); ++i) {
    scores.push_back({.log_probability = numbers[2 * i], .likeliest = numbers[2 * i + 1] > 0});
  }
  return scores;
}

}  // namespace trefoil
