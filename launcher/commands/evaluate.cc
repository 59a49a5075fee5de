#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <gflags/gflags.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/evaluation/evaluation_task.h"
#include "data/evaluation/text_rows.h"
#include "launcher/cluster/machine.h"
#include "launcher/commands/commands.h"
#include "launcher/flags/json.h"
#include "launcher/flags/output.h"
#include "launcher/given_flags.h"
#include "launcher/prepare.h"
#include "launcher/report/progress.h"
#include "launcher/trained_model.h"
#include "model/families/recipe.h"
#include "parallel/collectives/world.h"
#include "parallel/same_on_ranks.h"
#include "runtime/files/file.h"
#include "runtime/host/cpu_features.h"
#include "training/evaluation/row_scores.h"
#include "training/evaluation/task_result.h"

DEFINE_string(task, "",
              "Files of tasks, or patterns, with commas between; KIND:FILE where the file does not tell its kind: "
              "perplexity, multiple_choice, last_word or classification.");
DEFINE_int64(
    stride, 0,
    "Of perplexity, tokens of a document that each window scores but the first, which scores all of its own. The "
    "fewer, the more each has before it, and the more there is to compute. 0: as many as the model reads.");
DEFINE_int64(batch_tokens, 4096, "Tokens that go through the model at once, padding included.");
DEFINE_int64(limit, 0, "Only so many examples of each task, the first ones. 0: all.");
DEFINE_string(
    begin, "AUTO",
    "What stands before each text. END_OF_TEXT: the symbol that ends texts, behind which documents begin in "
    "training. NONE: nothing, but before what has no context. AUTO: what the tokenizer.json says; of a SentencePiece "
    "model its symbol of the begin, or END_OF_TEXT where it has none.");

namespace trefoil {
namespace {

using Json = nlohmann::ordered_json;

template <typename... Parts>
absl::Status Bad(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

absl::Status CheckFlags(int argc, char** argv) {
  if (argc > 1) return Bad("'", argv[1], "': no flag; give tasks with --task=FILE,FILE");
  if (FLAGS_task.empty()) return Bad("--task: missing; give a file of a task");
  if (FLAGS_stride < 0) return Bad("--stride: ", FLAGS_stride, ", must be at least 1, or 0; nearest legal: 1");
  if (FLAGS_batch_tokens < 1)
    return Bad("--batch_tokens: ", FLAGS_batch_tokens, ", must be at least 1; nearest legal: 1");
  if (FLAGS_limit < 0) return Bad("--limit: ", FLAGS_limit, ", must be at least 1, or 0; nearest legal: 1");
  const std::string begin = absl::AsciiStrToUpper(FLAGS_begin);
  if (begin != "AUTO" && begin != "NONE" && begin != "END_OF_TEXT") {
    return Bad("--begin: ", FLAGS_begin, ", must be AUTO, END_OF_TEXT or NONE");
  }
  return absl::OkStatus();
}

absl::Status CheckScores(const std::string& path, const ModelConfig& model) {
  const Recipe::Structure structure = RecipeOf(model).structure;
  const bool from_left = structure == Recipe::Structure::kDecoder || structure == Recipe::Structure::kRecurrent;
  if (!from_left || model.head() != ModelConfig::TOKENS) {
    return Bad(
        "--checkpoint: ", path, " is of a ", ModelConfig::Family_Name(model.family()), " with head ",
        ModelConfig::Head_Name(model.head()),
        ", which does not say how likely texts are; use `trefoil predict`, which scores what it was trained for");
  }
  if (FLAGS_stride <= model.sequence_length()) return absl::OkStatus();
  return Bad("--stride: ", FLAGS_stride, ", more than the ", model.sequence_length(),
             " tokens that the model reads; nearest legal: ", model.sequence_length());
}

std::vector<int32_t> BeginOfFlags(const Tokenizer& tokenizer) {
  const std::string begin = absl::AsciiStrToUpper(FLAGS_begin);
  if (begin == "NONE") return {};
  if (begin == "END_OF_TEXT") return {tokenizer.end_of_text()};
  return BeginOfTexts(tokenizer);
}

std::string BeginText(const Tokenizer& tokenizer, const std::vector<int32_t>& begin) {
  std::string text;
  for (const int32_t id : begin) absl::StrAppend(&text, text.empty() ? "" : " ", std::string(tokenizer.Piece(id)));
  return text;
}

// A column each: task, kind, examples, metric, value, standard error, count.
std::string Table(const std::vector<TaskResult>& results) {
  size_t widest = 4;
  for (const TaskResult& result : results) widest = std::max(widest, result.task.size());
  const int width = static_cast<int>(widest);
  std::string table = absl::StrFormat("%-*s  %-15s  %8s  %-16s  %12s  %10s\n", width, "task", "kind", "examples",
                                      "metric", "value", "std. error");
  for (const TaskResult& result : results) {
    for (const TaskMetric& metric : result.metrics) {
      const bool first = &metric == &result.metrics.front();
      absl::StrAppend(
          &table,
          absl::StrFormat("%-*s  %-15s  %8s  %-16s  %12s  %10s%s\n", width, first ? result.task : "",
                          first ? Name(result.kind) : "", first ? absl::StrCat(result.examples) : "", metric.name,
                          metric.right ? absl::StrFormat("%.4f", metric.value) : absl::StrFormat("%.6g", metric.value),
                          metric.standard_error ? absl::StrFormat("%.4g", *metric.standard_error) : "-",
                          metric.right ? absl::StrFormat("  %d of %d", *metric.right, result.examples) : ""));
    }
  }
  return table;
}

Json ToJson(const TaskResult& result, const std::string& path, int64_t cut) {
  Json json = {{"task", result.task},     {"file", path}, {"kind", Name(result.kind)}, {"examples", result.examples},
               {"tokens", result.tokens}, {"cut", cut}};
  for (const TaskMetric& metric : result.metrics) {
    Json& one = json["metrics"][metric.name] = {{"value", metric.value}};
    one["standard_error"] = metric.standard_error ? Json(*metric.standard_error) : Json();
    if (metric.right) one["right"] = *metric.right;
  }
  return json;
}

// Rank 0's bar: of what its copy of the model does.
class Scorer {
 public:
  Scorer(World& world, TrainedModel& trained) : world_(world), trained_(trained) {}

  std::vector<RowScore> Score(const std::string& name, const std::vector<TextRow>& rows) {
    const auto copies = trained_.predictor->copies();
    int64_t tokens = 0;
    for (const TextRow& row : rows) tokens += row.length();
    std::optional<ProgressBar> bar;
    if (world_.rank() == 0) bar.emplace(name, tokens / copies, copies, SpeedUnit{.name = "tokens", .size = 1});
    std::vector<RowScore> scores =
        ScoreRows(*trained_.predictor, world_.all(), rows, FLAGS_batch_tokens, [&](int64_t done) {
          if (bar) bar->Add(done);
        });
    if (bar) bar->Finish();
    return scores;
  }

 private:
  World& world_;
  TrainedModel& trained_;
};

absl::Status Evaluate(FileSystem& fs, World& world, int argc, char** argv) {
  Group& all = world.all();
  const bool first = world.rank() == 0;
  TREFOIL_RETURN_IF_ERROR(CheckSameOnRanks(all, CommandLineFacts({})));
  TREFOIL_RETURN_IF_ERROR(CheckFlags(argc, argv));
  TREFOIL_RETURN_IF_ERROR(all.Agree(CheckCpuLevel()));
  TREFOIL_RETURN_IF_ERROR(all.Agree(first && !FLAGS_output.empty() && fs.Exists(FLAGS_output)
                                        ? Bad("--output: ", FLAGS_output, " is there already")
                                        : absl::OkStatus()));
  // Before the weights: a mistake in a file costs nothing.
  const absl::StatusOr<std::vector<EvaluationTask>> tasks = ReadEvaluationTasks(FLAGS_task, FLAGS_limit);
  TREFOIL_RETURN_IF_ERROR(all.Agree(tasks.ok() ? tasks.status() : Bad("--task: ", tasks.status().message())));
  const std::unique_ptr<Device> device = OpenCpu(RuntimeConfig(), world.local_size());
  TREFOIL_ASSIGN_OR_RETURN(TrainedModel trained,
                           LoadTrainedModel(fs, "evaluate", CheckScores, Copies::kAllowed, world, *device));
  const RowOptions options = {
      .context = trained.model().sequence_length(), .stride = FLAGS_stride, .begin = BeginOfFlags(*trained.tokenizer)};
  const std::string begin = BeginText(*trained.tokenizer, options.begin);
  Json json = {{"checkpoint", trained.checkpoint},
               {"begin", begin},
               {"context", options.context},
               {"stride", options.stride > 0 ? options.stride : options.context}};
  Scorer scorer(world, trained);
  std::vector<TaskResult> results;
  std::vector<std::string> notes;
  for (const EvaluationTask& task : *tasks) {
    const absl::StatusOr<TaskRows> rows = RowsOf(task, *trained.tokenizer, options);
    TREFOIL_RETURN_IF_ERROR(all.Agree(rows.status()));
    results.push_back(ResultOf(task, *rows, scorer.Score(task.name, rows->rows)));
    json["tasks"].push_back(ToJson(results.back(), task.path, rows->cut));
    if (rows->cut == 0) continue;
    notes.push_back(absl::StrCat(task.path, ": ", rows->cut, rows->cut == 1 ? " text has" : " texts have",
                                 " lost the beginning, to fit into the ", options.context,
                                 " tokens that the model reads, the first at ", rows->first_cut));
  }
  if (!first) return absl::OkStatus();
  const std::string text = json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  if (!FLAGS_output.empty()) TREFOIL_RETURN_IF_ERROR(WriteFileAtomically(fs, FLAGS_output, text));
  if (FLAGS_json) {
    std::cout << text << std::flush;
  } else {
    std::cout << "checkpoint  " << trained.checkpoint << "\nbefore texts  " << (begin.empty() ? "nothing" : begin)
              << "\n\n"
              << Table(results) << std::flush;
  }
  for (const std::string& note : notes) std::cerr << "trefoil evaluate: note: " << note << "\n";
  return absl::OkStatus();
}

}  // namespace

int EvaluateMain(int argc, char** argv) {
  const std::unique_ptr<World> world = NewMpiWorld(&argc, &argv);
  const absl::Status status = Evaluate(FileSystem::Posix(), *world, argc, argv);
  return status.ok() ? 0 : Fail("evaluate", status, world->rank() == 0);
}

}  // namespace trefoil
