// What a trained model is asked, and what is right: a file of texts to find likely, or of questions with choices.
//
//   TREFOIL_ASSIGN_OR_RETURN(const EvaluationTask task, ReadEvaluationTask("arc_easy.jsonl", /*limit=*/0));
//   TREFOIL_ASSIGN_OR_RETURN(task, ReadEvaluationTask("last_word:lambada.jsonl", /*limit=*/100));
//
// An argument is a path, or a kind and a path with a colon between. Kinds, and the lines of a .jsonl (.gz, .zst):
//
//   perplexity       {"text": "..."}: each line a document. A file of another name is one document.
//   multiple_choice  {"context": "2 + 2 =", "choices": ["3", "4"], "answer": 1}: which is the likeliest behind the
//   context?
//                    "delimiter", if the line has it, stands between the two in place of a space.
//   last_word        {"text": "... to the lighthouse"}: is what comes behind the last space what the model writes?
//   classification   {"text": "A fine film.", "label": "good"}, or the label's number, behind a first line
//                    {"kind": "classification", "labels": ["bad", "good"], "after": "\nIt was"}: which label is the
//                    likeliest behind the text and `after`?
//
// Any .jsonl may begin with a line that has a field "kind", which then needs no other. Where neither argument nor first
// line say the kind, the first line's fields do: "choices", "text". Lines of HellaSwag, ARC, PIQA and WinoGrande as
// they are published are multiple_choice too, asked as EleutherAI's lm-evaluation-harness asks them
// (data/evaluation/benchmarks.h). Fields that a kind has no use for are passed over.
//
// Failure: what is wrong, with file, line, field and what would be right. Threads: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/status.h"

namespace trefoil {

enum class EvaluationKind { kPerplexity, kMultipleChoice, kLastWord, kClassification };
// "perplexity", "multiple_choice", "last_word", "classification".
const char* Name(EvaluationKind kind);

// A text whose probability is asked for, behind another, which may be empty.
struct Continuation {
  std::string context, text;
  std::string answer;  // what of `text` lengths are of: the choice, without the delimiter
};

struct EvaluationExample {
  std::string place;  // "arc.jsonl: line 12"
  // Of perplexity one, without context: the document. Of last_word one. Else the choices.
  std::vector<Continuation> continuations;
  int64_t right = 0;  // the number of the right choice
};

struct EvaluationTask {
  std::string name;  // the file's, without folders and ending
  std::string path;
  EvaluationKind kind = EvaluationKind::kPerplexity;
  std::vector<EvaluationExample> examples;  // at least one
};

// The tasks of arguments with commas between; what a pattern matches are several. Of each no more than `limit`
// examples; 0: all.
absl::StatusOr<std::vector<EvaluationTask>> ReadEvaluationTasks(const std::string& arguments, int64_t limit);
absl::StatusOr<EvaluationTask> ReadEvaluationTask(const std::string& argument, int64_t limit);

// Characters (code points) of UTF-8.
int64_t Characters(std::string_view text);
// As Python's str.isspace has it: of the character at the front of a text its bytes where it is white space, else 0.
size_t SpaceLength(std::string_view text);
// Words and white space between them take turns; so many words, an empty one at either end included.
int64_t Words(std::string_view text);

}  // namespace trefoil
