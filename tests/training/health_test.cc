// What whole runs do about numbers that are not finite (training.on_nan, training.on_nan_limit) and copies that differ
// (training.compare_replicas_every_steps).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/parallel/test_world.h"
#include "tests/runtime/test_device.h"
#include "tests/training/run_testing.h"
#include "training/saving/resume.h"
#include "training/worker.h"

namespace trefoil {
namespace {

constexpr int kPoison = 60;  // a token that only one sample has

void ExpectHas(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) EXPECT_NE(text.find(part), std::string::npos) << text << "\nlacks: " << part;
}

int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

std::vector<nlohmann::json> Metrics(const RunConfig& config) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(config.folder() + "/metrics.jsonl");
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

// A run whose initial weights have NaN in the embedding of kPoison, which `samples` of its corpus of 100 have.
RunConfig PoisonedRun(const std::string& more, int samples) {
  const std::string folder = NewFolder("poisoned");
  const RunConfig donor = TinyRun(folder, "folder: '" + folder + "/donor'");
  RunRanksAsThreads(1, [&](World& threads) {
    const TestWorld world(threads);
    const std::unique_ptr<Device> device = NewTestDevice();
    Worker worker(donor, *world, *device);
    worker.store.Initialize(1, worker.groups);
    const std::vector<float> nan(32, NAN);
    device->Upload(nan.data(), worker.store.Weight({"embedding.token.weight"}).Rows(kPoison, kPoison + 1));
    TrainerState state;
    state.set_step(1);
    const auto may_write = [] { return absl::OkStatus(); };
    ASSERT_TRUE(SaveCheckpoint(FileSystem::Posix(), worker, CheckpointsFolder(donor), state, "", may_write).ok());
  });
  const std::string weights = CheckpointsFolder(donor) + "/step-00000001";
  const RunConfig config = TinyRun(folder, more + " training { checkpoint { initial_weights: '" + weights + "' } }");
  std::vector<int32_t> ids = LearnableIds(100 * 16 + 1, kPoison, 1);
  for (int i = 0; i < samples; ++i) ids[static_cast<size_t>(16 * i + 3)] = kPoison;
  WriteTokens(folder + "/train", ids, 61);
  return config;
}

// Rows of an embedding are split over the tensor axis, and kPoison is the last.
std::string PoisonOf(const RunConfig& config) {
  return "weight embedding.token.weight on rank " + std::to_string(config.parallel().tensor() - 1) + " on ";
}

class HealthTest : public testing::TestWithParam<const char*> {};

TEST_P(HealthTest, ASkippedStepIsSaidMarkedAndCounted) {
  const RunConfig config = PoisonedRun(std::string(GetParam()) + " training { steps: 12 on_nan: SKIP }", 1);
  const RunOutcome outcome = RunTraining(config);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  ExpectHas(outcome.output,
            {" is skipped: loss ", "; not finite first: " + PoisonOf(config), " (1 in a row; 10 end the run)."});
  EXPECT_EQ(Count(outcome.output, "WARNING: step "), 1);
  const auto metrics = Metrics(config);
  ASSERT_EQ(metrics.size(), 12u);
  int skipped = 0;
  for (const nlohmann::json& line : metrics) {
    EXPECT_EQ(line.contains("skipped"), line["loss"].is_null()) << line;
    skipped += line.contains("skipped") ? 1 : 0;
  }
  EXPECT_EQ(skipped, 1);
  const std::string state = CheckpointContentOf(config, 12)["trainer_state"];
  ExpectHas(state, {"step: 12", "samples_used: 96", "skipped_steps: 1"});
  EXPECT_EQ(state.find("skipped_in_a_row"), std::string::npos) << state;
}

TEST_P(HealthTest, AResumedRunCountsOn) {
  const std::string more = std::string(GetParam()) + " training { steps: 12 on_nan: SKIP }";
  const RunConfig straight = PoisonedRun(more, 1);
  ASSERT_TRUE(RunTraining(straight).status.ok());
  const auto metrics = Metrics(straight);
  const auto at =
      std::find_if(metrics.begin(), metrics.end(), [](const auto& line) { return line.contains("skipped"); });
  const auto step = static_cast<int>(at - metrics.begin()) + 1;
  ASSERT_LT(step, 12) << "the skipped step must not be the last";
  const RunConfig stopped = With(straight, "folder: '" + straight.folder() + "_stopped'");
  ASSERT_TRUE(RunAndStopAfter(stopped, step).status.ok());
  ExpectHas(CheckpointContentOf(stopped, step)["trainer_state"], {"skipped_steps: 1", "skipped_in_a_row: 1"});
  ASSERT_TRUE(RunTraining(stopped).status.ok());
  EXPECT_TRUE(CheckpointContentOf(straight, 12) == CheckpointContentOf(stopped, 12));
}

TEST_P(HealthTest, TooManySkippedInARowEndTheRunAndSaveNothing) {
  const RunConfig config = PoisonedRun(
      std::string(GetParam()) + " training { on_nan: SKIP on_nan_limit: 3 checkpoint { every_steps: 3 } }", 100);
  const RunOutcome outcome = RunTraining(config);
  EXPECT_TRUE(absl::IsDataLoss(outcome.status));
  ExpectHas(std::string(outcome.status.message()),
            {"step 3 is skipped: loss ", "It is number 3 in a row, and training.on_nan_limit 3 ends the run",
             "There is no checkpoint yet"});
  EXPECT_EQ(Count(outcome.output, "WARNING: step "), 2);
  EXPECT_EQ(Metrics(config).size(), 3u);
  EXPECT_EQ(NewestStep(config), -1);
}

TEST_P(HealthTest, StopIsTheDefault) {
  const RunConfig config = PoisonedRun(GetParam(), 100);
  const RunOutcome outcome = RunTraining(config);
  EXPECT_TRUE(absl::IsDataLoss(outcome.status));
  ExpectHas(std::string(outcome.status.message()),
            {"step 1: the loss is ", ", must be finite; the parameters were not updated. Not finite first: " +
             PoisonOf(config), "training.on_nan: SKIP", "There is no checkpoint yet"});
}

INSTANTIATE_TEST_SUITE_P(Layouts, HealthTest,
                         testing::Values("parallel { tensor: 2 }", "parallel { pipeline: 2 }", "parallel { data: 2 }",
                                         "parallel { data: 2 } training { precision: BF16 }"));

// A rank that computes its copies otherwise: by another beta2, as by another instruction or a bad memory.
RunOutcome RunDiverging(const RunConfig& config) {
  return RunTraining(config, [](int rank, RankRun& run) {
    if (rank == 1) run.config.mutable_training()->mutable_optimizer()->set_beta2(0.9501f);
  });
}

TEST(CompareReplicasInRuns, WhatDiffersIsNotSaved) {
  for (const char* layout : {"parallel { data: 3 zero: NONE } training { global_batch: 6 }", "parallel { tensor: 2 }",
                             "model { family: GPT } parallel { pipeline: 2 }"}) {
    SCOPED_TRACE(layout);
    const RunConfig config =
        TinyRun(NewFolder("run"), std::string(layout) + " training { steps: 6 checkpoint { every_steps: 2 } }");
    ASSERT_TRUE(RunAndStopAfter(config, 1).status.ok());
    const RunOutcome outcome = RunDiverging(config);
    EXPECT_TRUE(absl::IsDataLoss(outcome.status)) << outcome.status;
    ExpectHas(std::string(outcome.status.message()),
              {": rank ", "rank 1 on ", "must be equal to the bit", "The checkpoint of step 1 is kept: it is from before"});
    EXPECT_EQ(NewestStep(config), 1);
    EXPECT_EQ(Metrics(config).size(), 2u) << "found before the save of step 2";
  }
}

TEST(CompareReplicasInRuns, AsOftenAsIsAsked) {
  const auto steps = [](const std::string& asked, bool* ended_well) {
    const RunConfig config =
        TinyRun(NewFolder("run"), "parallel { data: 2 zero: NONE } training { steps: 5 " + asked + " }");
    *ended_well = RunDiverging(config).status.ok();
    return Metrics(config).size();
  };
  bool well = false;
  EXPECT_EQ(steps("compare_replicas_every_steps: 3", &well), 3u);
  EXPECT_FALSE(well);
  EXPECT_EQ(steps("", &well), 5u) << "before the save at the end";
  EXPECT_FALSE(well);
  EXPECT_EQ(steps("compare_replicas_every_steps: 0", &well), 5u);
  EXPECT_TRUE(well);
}

}  // namespace
}  // namespace trefoil
