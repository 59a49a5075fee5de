// What comes out of an evaluation: accuracies and perplexities, as EleutherAI's lm-evaluation-harness defines them,
// each with its standard error.
//
//   const TaskResult result = ResultOf(task, rows, scores);
//   for (const TaskMetric& metric : result.metrics) std::cout << metric.name << " " << metric.value;
//
//   multiple_choice, classification
//     acc         share of examples whose right choice is the likeliest; of equals the first counts as such
//     acc_norm    the same by log-probability over characters of the choice
//     acc_bytes   the same over bytes of UTF-8
//   last_word
//     acc         share of examples of whose last word each token is the likeliest
//     perplexity  exp(- mean of the words' log-probabilities)
//   perplexity
//     token_, word_, byte_perplexity    exp(- sum of log-probabilities / tokens, words, bytes), over all documents
//     bits_per_byte                     the same as bits
//
// Standard errors: of shares sqrt(p (1 - p) / (n - 1)) over n examples; of perplexities that of the ratio of two sums
// over documents, carried through the exponential; none of one example.
//
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/evaluation/text_rows.h"
#include "training/evaluation/row_scores.h"

namespace trefoil {

struct TaskMetric {
  std::string name;
  double value = 0;
  std::optional<double> standard_error;
  std::optional<int64_t> right;  // of shares: how many examples
};

struct TaskResult {
  std::string task;
  EvaluationKind kind = EvaluationKind::kPerplexity;
  int64_t examples = 0;
  int64_t tokens = 0;  // that were scored
  std::vector<TaskMetric> metrics;
};

// `scores` of all of the task's rows.
TaskResult ResultOf(const EvaluationTask& task, const TaskRows& rows, std::span<const RowScore> scores);

}  // namespace trefoil
