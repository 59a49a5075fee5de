// Rows of tokens of which a model is asked how likely the last ones are: what an evaluation is made of.
//
//   TREFOIL_ASSIGN_OR_RETURN(const TaskRows rows, RowsOf(task, tokenizer, {.context = 2048, .begin = begin}));
//   rows.rows[3];     // {ids: 0 17 4 99 12, scored: 2}: P(99 | 0 17 4) P(12 | 0 17 4 99)
//
// The rules are those of EleutherAI's lm-evaluation-harness (lm_eval/api/model.py and utils.py):
//   - Spaces that end a context belong to what continues it. Both are encoded as one text, whose tokens are cut where
//   the
//     context's own would end.
//   - What is too long loses its first tokens, `begin` too.
//   - Behind an empty context and without `begin` there is the tokenizer's symbol of the begin, or where it has none of
//   the end.
//   - A document is cut into windows. The first scores all of its tokens, as many as the model reads at once. Each
//   further
//     one scores the next `stride` and has as many of those before them as there is room for: with a stride as large as
//     the context one, but the last window, which may be shorter, as many as there is room for.
//
// Threads: pure functions but for the tokenizer's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/evaluation/evaluation_task.h"
#include "data/tokens/tokenizer.h"
#include "runtime/status.h"

namespace trefoil {

struct TextRow {
  std::vector<int32_t> ids;  // the first is not scored
  int64_t scored = 0;        // the last so many
  // What the model reads: all but the last.
  int64_t length() const { return static_cast<int64_t>(ids.size()) - 1; }
};

struct RowOptions {
  int64_t context = 0;              // tokens that the model reads
  int64_t stride = 0;               // of windows, 1 to context; 0: context
  std::vector<int32_t> begin = {};  // before each text
};

struct TaskRows {
  std::vector<TextRow> rows;
  // The rows of each continuation, of all examples one after the other: continuation i has [first[i], first[i + 1]).
  std::vector<size_t> first;
  int64_t cut = 0;        // continuations whose contexts were cut
  std::string first_cut;  // where the first of them stands
};

// Failure: a continuation without a token of its own, or with more than the model reads, named by its place.
absl::StatusOr<TaskRows> RowsOf(const EvaluationTask& task, Tokenizer& tokenizer, const RowOptions& options);

// What texts begin with for a model of this tokenizer: what a tokenizer.json says, which may be nothing; of a
// SentencePiece model, which does not say, its symbol of the begin, or where it has none, as those trained here, that
// of the end.
std::vector<int32_t> BeginOfTexts(const Tokenizer& tokenizer);

// The windows of a document of at least one token, behind `before`.
std::vector<TextRow> Windows(const std::vector<int32_t>& ids, int32_t before, int64_t context, int64_t stride);

}  // namespace trefoil
