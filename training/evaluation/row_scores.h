// How likely rows are (data/evaluation/text_rows.h), by a model that is there to be asked.
//
//   const std::vector<RowScore> scores = ScoreRows(predictor, world.all(), rows.rows, /*batch_tokens=*/8192);
//
// Rows of like length go through the model together, the longest first, as many as have `batch_tokens` with their
// padding, at least one. Copies of the model share the batches. A row's score does not depend on its batch but for
// rounding.
//
// Threads: the rank's main thread. Every rank makes the same call and gets all scores.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "data/evaluation/text_rows.h"
#include "parallel/collectives/group.h"
#include "training/inference/predictor.h"

namespace trefoil {

struct RowScore {
  double log_probability = 0;  // of the scored tokens, summed
  bool likeliest = true;       // of each of them no other token is likelier
};

// The numbers of rows that go in together.
std::vector<std::vector<size_t>> RowBatches(std::span<const TextRow> rows, int64_t batch_tokens);
// Rows as a batch, padded to the longest.
Batch BatchOfRows(std::span<const TextRow> rows, std::span<const size_t> numbers, int64_t length);

// `done` is told of the tokens of each batch of this copy, padding left out; may be unset.
std::vector<RowScore> ScoreRows(Predictor& predictor, Group& all, std::span<const TextRow> rows, int64_t batch_tokens,
                                const std::function<void(int64_t tokens)>& done = nullptr);

}  // namespace trefoil
