#include "training/evaluation/task_result.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

namespace trefoil {
namespace {

struct Document {
  double log_probability, units;
};

TaskMetric Share(const std::string& name, int64_t right, int64_t all) {
  const double n = static_cast<double>(all), p = static_cast<double>(right) / n;
  TaskMetric metric = {.name = name, .value = p, .standard_error = {}, .right = right};
  if (all > 1) metric.standard_error = std::sqrt(p * (1 - p) / (n - 1));
  return metric;
}

// Nats a unit, of all documents together.
TaskMetric Rate(std::span<const Document> documents) {
  double nats = 0, units = 0, squares = 0;
  for (const Document& document : documents) {
    nats -= document.log_probability;
    units += document.units;
  }
  TaskMetric metric = {.name = "", .value = nats / units, .standard_error = {}, .right = {}};
  for (const Document& document : documents) {
    squares += std::pow(-document.log_probability - metric.value * document.units, 2);
  }
  const auto n = static_cast<double>(documents.size());
  if (documents.size() > 1) metric.standard_error = std::sqrt(n / (n - 1) * squares) / units;
  return metric;
}

TaskMetric Perplexity(const std::string& name, std::span<const Document> documents) {
  TaskMetric metric = Rate(documents);
  metric.name = name;
  metric.value = std::exp(metric.value);
  if (metric.standard_error) *metric.standard_error *= metric.value;
  return metric;
}

TaskMetric Bits(const std::string& name, std::span<const Document> documents) {
  TaskMetric metric = Rate(documents);
  metric.name = name;
  metric.value /= std::numbers::ln2;
  if (metric.standard_error) *metric.standard_error /= std::numbers::ln2;
  return metric;
}

std::vector<TaskMetric> OfDocuments(const EvaluationTask& task, std::span<const RowScore> of_texts,
                                    std::span<const int64_t> tokens) {
  const auto documents = [&](const auto& units) {
    std::vector<Document> result;
    for (size_t i = 0; i < of_texts.size(); ++i) {
      result.push_back({.log_probability = of_texts[i].log_probability, .units = static_cast<double>(units(i))});
    }
    return result;
  };
  const auto text = [&](size_t i) -> const std::string& { return task.examples[i].continuations[0].text; };
  const std::vector<Document> by_bytes = documents([&](size_t i) { return text(i).size(); });
  return {Perplexity("token_perplexity", documents([&](size_t i) { return tokens[i]; })),
          Perplexity("word_perplexity", documents([&](size_t i) { return Words(text(i)); })),
          Perplexity("byte_perplexity", by_bytes), Bits("bits_per_byte", by_bytes)};
}

std::vector<TaskMetric> OfLastWords(std::span<const RowScore> of_texts) {
  std::vector<Document> words;
  for (const RowScore& word : of_texts) words.push_back({.log_probability = word.log_probability, .units = 1});
  const auto right =
      std::count_if(of_texts.begin(), of_texts.end(), [](const RowScore& word) { return word.likeliest; });
  return {Share("acc", right, std::ssize(of_texts)), Perplexity("perplexity", words)};
}

std::vector<TaskMetric> OfChoices(const EvaluationTask& task, std::span<const RowScore> of_texts) {
  const auto share = [&](const std::string& name, const auto& length) {
    int64_t right = 0;
    size_t first = 0;
    for (const EvaluationExample& example : task.examples) {
      std::vector<double> scores;
      for (const Continuation& choice : example.continuations) {
        scores.push_back(of_texts[first + scores.size()].log_probability / static_cast<double>(length(choice.answer)));
      }
      first += scores.size();
      right += std::max_element(scores.begin(), scores.end()) - scores.begin() == example.right ? 1 : 0;
    }
    return Share(name, right, std::ssize(task.examples));
  };
  return {share("acc", [](const std::string&) { return 1; }), share("acc_norm", Characters),
          share("acc_bytes", [](const std::string& answer) { return std::ssize(answer); })};
}

}  // namespace

TaskResult ResultOf(const EvaluationTask& task, const TaskRows& rows, std::span<const RowScore> scores) {
  CHECK_EQ(scores.size(), rows.rows.size());
  std::vector<RowScore> of_texts;  // of each continuation
  std::vector<int64_t> tokens;
  for (size_t i = 0; i + 1 < rows.first.size(); ++i) {
    RowScore sum;
    tokens.push_back(0);
    for (size_t row = rows.first[i]; row < rows.first[i + 1]; ++row) {
      sum.log_probability += scores[row].log_probability;
      sum.likeliest = sum.likeliest && scores[row].likeliest;
      tokens.back() += rows.rows[row].scored;
    }
    of_texts.push_back(sum);
  }
  TaskResult result = {.task = task.name, .kind = task.kind, .examples = std::ssize(task.examples), .metrics = {}};
  result.tokens = std::accumulate(tokens.begin(), tokens.end(), int64_t{0});
  result.metrics = task.kind == EvaluationKind::kPerplexity ? OfDocuments(task, of_texts, tokens)
                   : task.kind == EvaluationKind::kLastWord ? OfLastWords(of_texts)
                                                            : OfChoices(task, of_texts);
  return result;
}

}  // namespace trefoil
