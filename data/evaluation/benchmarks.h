// Lines of published benchmarks as questions with choices, put into words as EleutherAI's lm-evaluation-harness does
// (version 0.4.13, tasks hellaswag, arc_easy and arc_challenge, piqa, winogrande).
//
//   HellaSwag    activity_label, ctx_a, ctx_b, endings, label    "Roof shingle removal: A man is ..." + " he starts
//   ..." ARC          question, choices {text, label}, answerKey      "Question: Which ...?\nAnswer:" + " the sun" PIQA
//   goal, sol1, sol2, label                         "Question: To ...\nAnswer:" + " put it ..." WinoGrande   sentence,
//   option1, option2, answer              "Ann thanked Eve because Eve" + " had helped."
//
// Threads: pure functions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "data/evaluation/evaluation_task.h"

namespace trefoil {

// Which of them has such a line: its name; null: none.
const char* BenchmarkOf(const nlohmann::json& line);
// Places are left to the caller. Failure: a field that is missing or of another type.
absl::StatusOr<EvaluationExample> BenchmarkExample(const std::string& benchmark, const nlohmann::json& line);

}  // namespace trefoil
