// Tasks of every kind by models of transformers: to the last digit of counts what EleutherAI's lm-evaluation-harness
// says (tests/golden/make_evaluations.py), whatever the layout and the batches.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "data/evaluation/evaluation_task.h"
#include "data/evaluation/text_rows.h"
#include "data/tokens/tokenizer.h"
#include "parallel/collectives/world.h"
#include "tests/exchange/exchange_testing.h"
#include "training/evaluation/row_scores.h"
#include "training/evaluation/task_result.h"
#include "training/inference/predictor.h"

namespace trefoil {
namespace {

using Json = nlohmann::json;

const std::string kFolder = "tests/golden/evaluations/";

struct Layout {
  InferenceLayout of_copy;
  int copies = 1;
  int64_t batch_tokens = 4096;
};

class EvaluationsTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string work = testing::TempDir() + "/" + GetParam();
    std::filesystem::remove_all(work);
    std::filesystem::create_directories(work + "/model");
    // Here they may be links out of their folders.
    for (const auto& file : std::filesystem::directory_iterator(std::string("tests/exchange/models/") + GetParam())) {
      std::filesystem::copy_file(file.path(), work + "/model/" + file.path().filename().string());
    }
    run_ = Import(work + "/model", work + "/run", /*ranks=*/1);
  }

  // Of each task, by its name, on every rank the same.
  std::map<std::string, TaskResult> Results(const Layout& layout, int64_t limit, int64_t* cut = nullptr) const {
    const auto tasks = ReadEvaluationTasks(kFolder + "*.jsonl", limit);
    EXPECT_TRUE(tasks.ok()) << tasks.status();
    std::map<std::string, TaskResult> results;
    RunRanksAsThreads(layout.of_copy.tensor * layout.of_copy.pipeline * layout.copies, [&](World& world) {
      auto tokenizer = Tokenizer::Load(FileSystem::Posix(), kFolder + "tokenizer.model");
      ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
      const std::unique_ptr<Device> device = NewCpuDevice(1);
      Predictor predictor(run_.foreign.model, layout.of_copy, world, *device);
      ASSERT_TRUE(predictor.Load(FileSystem::Posix(), run_.checkpoint).ok());
      EXPECT_EQ(predictor.copies(), layout.copies);
      for (const EvaluationTask& task : *tasks) {
        const auto rows = RowsOf(task, *tokenizer, {.context = predictor.model().sequence_length()});
        ASSERT_TRUE(rows.ok()) << rows.status();
        const std::vector<RowScore> scores = ScoreRows(predictor, world.all(), rows->rows, layout.batch_tokens);
        if (world.rank() != world.size() - 1) continue;
        results[task.name] = ResultOf(task, *rows, scores);
        if (cut != nullptr) *cut += rows->cut;
      }
    });
    return results;
  }

  static int64_t Metrics(const Json& of_task) {
    int64_t metrics = 0;
    for (const auto& item : of_task.items()) {
      metrics += item.key() == "sample_len" || item.key().ends_with("_stderr") ? 0 : 1;
    }
    return metrics;
  }

  static void ExpectSame(const std::map<std::string, TaskResult>& results, const Json& expected) {
    ASSERT_EQ(results.size(), expected.size());
    for (const auto& [task, result] : results) {
      const Json& of_task = expected.at(task);
      EXPECT_EQ(result.examples, of_task.at("sample_len").get<int64_t>());
      int64_t compared = 0;
      for (const TaskMetric& metric : result.metrics) {
        SCOPED_TRACE(task + " " + metric.name);
        if (!of_task.contains(metric.name)) continue;
        ++compared;
        const double value = of_task.at(metric.name);
        if (metric.right) {
          EXPECT_EQ(*metric.right, std::llround(value * static_cast<double>(result.examples)));
          EXPECT_NEAR(metric.value, value, 1e-12);
          EXPECT_NEAR(*metric.standard_error, of_task.at(metric.name + "_stderr").get<double>(), 1e-12);
        } else {
          EXPECT_NEAR(metric.value / value, 1, 1e-4);
          EXPECT_GT(*metric.standard_error, 0);
        }
      }
      EXPECT_EQ(compared, Metrics(of_task)) << task;
    }
  }

  ImportedRun run_;
};

INSTANTIATE_TEST_SUITE_P(Models, EvaluationsTest, testing::Values("gpt2", "llama2"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(EvaluationsTest, SayWhatTheHarnessSays) {
  const Json expected = Json::parse(std::ifstream(kFolder + "expected.json")).at(GetParam());
  int64_t cut = 0;
  ExpectSame(Results({}, /*limit=*/0, &cut), expected);
  EXPECT_GT(cut, 20);
}

TEST_P(EvaluationsTest, WhateverTheLayoutAndTheBatches) {
  const std::map<std::string, TaskResult> expected = Results({}, /*limit=*/15);
  for (const Layout& layout :
       {Layout{.of_copy = {.tensor = 2}, .batch_tokens = 1},
        Layout{.of_copy = {.tensor = 2, .pipeline = 2}, .batch_tokens = 200},
        Layout{.of_copy = {}, .copies = 3, .batch_tokens = 333}, Layout{.of_copy = {.pipeline = 2}, .copies = 2}}) {
    SCOPED_TRACE(absl::StrCat(layout.of_copy.tensor, " x ", layout.of_copy.pipeline, " x ", layout.copies));
    const std::map<std::string, TaskResult> results = Results(layout, /*limit=*/15);
    ASSERT_EQ(results.size(), expected.size());
    for (const auto& [task, result] : results) {
      const TaskResult& one = expected.at(task);
      EXPECT_EQ(result.examples, one.examples);
      EXPECT_EQ(result.tokens, one.tokens);
      for (size_t i = 0; i < one.metrics.size(); ++i) {
        EXPECT_EQ(result.metrics[i].right, one.metrics[i].right) << task << " " << one.metrics[i].name;
        EXPECT_NEAR(result.metrics[i].value / std::max(one.metrics[i].value, 1e-9), one.metrics[i].value > 0 ? 1 : 0,
                    1e-4);
      }
    }
  }
}

TEST(RowBatches, HoldEachRowOnceTheLongestFirst) {
  std::vector<TextRow> rows;
  for (const size_t length : {3, 9, 1, 5, 5, 2, 30})
    rows.push_back({.ids = std::vector<int32_t>(length + 1), .scored = 1});
  const std::vector<std::vector<size_t>> batches = RowBatches(rows, 12);
  EXPECT_EQ(batches, (std::vector<std::vector<size_t>>{{6}, {1}, {3, 4}, {0, 5, 2}}));
}

TEST(TaskResult, StandardErrorsOfPerplexitiesAreOfTheRatio) {
  EvaluationTask task = {.name = "t", .path = "t", .kind = EvaluationKind::kPerplexity, .examples = {}};
  TaskRows rows;
  std::vector<RowScore> scores;
  const std::vector<double> nats = {4, 3, 11};
  for (size_t i = 0; i < nats.size(); ++i) {
    task.examples.push_back(
        {.place = "t", .continuations = {{.context = "", .text = std::string(i + 2, 'x'), .answer = ""}}});
    rows.rows.push_back({.ids = {0, 1, 2}, .scored = 2});
    rows.first.push_back(i);
    scores.push_back({.log_probability = -nats[i]});
  }
  rows.first.push_back(3);
  const TaskResult result = ResultOf(task, rows, scores);
  ASSERT_EQ(result.metrics[2].name, "byte_perplexity");
  EXPECT_NEAR(result.metrics[2].value, std::exp(2.0), 1e-12);  // 18 nats of 9 bytes
  // Residuals 0, -3, 3.
  EXPECT_NEAR(*result.metrics[2].standard_error, std::exp(2.0) * std::sqrt(1.5 * 18) / 9, 1e-12);
  EXPECT_NEAR(result.metrics[3].value, 2 / std::log(2.0), 1e-12);
  EXPECT_NEAR(result.metrics[0].value, std::exp(3.0), 1e-12);
}

}  // namespace
}  // namespace trefoil
