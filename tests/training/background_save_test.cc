// training.checkpoint.writing BACKGROUND: saves beside the steps that follow.
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "checkpoint/directory.h"
#include "tests/runtime/files/fault_file_system.h"
#include "tests/runtime/files/odd_file_systems.h"
#include "tests/training/trainer_testing.h"

namespace trefoil {
namespace {

constexpr char kBackground[] = "training { checkpoint { writing: BACKGROUND } }";

class BackgroundSaveTest : public TrainTest {
 protected:
  // The unbroken run saves in the foreground and keeps all; the other in the background.
  void SetUpRuns(const std::string& more = kFour) {
    TrainTest::SetUpRuns(more);
    config_ = With(config_, kBackground);
  }
  std::vector<int64_t> StepsOf(const RunConfig& config) {
    std::vector<int64_t> steps;
    const auto complete = CompleteCheckpoints(FileSystem::Posix(), config.folder() + "/checkpoints");
    for (const std::string& path : *complete) {
      steps.push_back(StepOf(path));
    }
    std::ranges::reverse(steps);
    return steps;
  }
  void ExpectOutput(const RunOutcome& outcome, const std::vector<std::string>& parts) {
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    for (const std::string& part : parts) {
      EXPECT_NE(outcome.output.find(part), std::string::npos) << part << " is missing:\n" << outcome.output;
    }
  }
  // With a disk on which a save takes as long as some steps, which take some milliseconds each.
  RunOutcome RunSlowly(const RunConfig& config, double steps, int stop_after = -1) {
    static constexpr double kStep = 0.005;
    constexpr int kCalls = 3;  // for a part of the manifest: made, written, closed
    SlowFileSystem disk(FileSystem::Posix(), "rank-00000.json", steps * kStep / kCalls);
    return RunTraining(config, [&](int rank, RankRun& run) {
      run.options.fs = &disk;
      if (rank != 0) return;
      run.options.stop_requested = [asked = 0, stop_after]() mutable {
        std::this_thread::sleep_for(std::chrono::duration<double>(kStep));
        return asked++ == stop_after;
      };
    });
  }
};

// On several layouts, with data files that are written while steps change the state.
TEST_F(BackgroundSaveTest, ItsCheckpointsAreThoseOfTheForegroundToTheBit) {
  for (const char* layout :
       {"data: 1", "tensor: 2 data: 2", "data: 2 zero: NONE", "pipeline: 2 data: 2 zero: WEIGHTS schedule: GPIPE"}) {
    SCOPED_TRACE(layout);
    SetUpRuns(std::string("model { layers: 2 } parallel { ") + layout +
              " } training { steps: 30 checkpoint { every_steps: 1 keep_last: 0 } }");
    ASSERT_TRUE(RunSlowly(config_, 1.5).status.ok());
    ExpectSameToTheBit(unbroken_, config_, 30);
    const std::vector<int64_t> steps = StepsOf(config_);
    EXPECT_GE(steps.size(), 3u);
    for (const int64_t step : steps) {
      EXPECT_TRUE(CheckpointContentOf(unbroken_, step) == CheckpointContentOf(config_, step)) << step;
    }
    // A run that goes on from one of them.
    const int64_t from = steps[1];
    for (const int64_t step : steps) {
      if (step > from) std::filesystem::remove_all(CheckpointPath(config_.folder() + "/checkpoints", step));
    }
    ExpectRecovers();
  }
}

TEST_F(BackgroundSaveTest, OneThatComesDueMeanwhileIsPutOff) {
  SetUpRuns("parallel { data: 2 } training { steps: 80 checkpoint { every_steps: 2 keep_last: 0 } }");
  const RunOutcome outcome = RunSlowly(config_, 30);
  ExpectOutput(outcome, {"The checkpoint of step 4 is put off: that of step 2 is still being written.\n",
                         "Saved checkpoint of step 2 in 0.", " s in the background; training waited 0.",
                         "Saved checkpoint of step 80 in "});
  EXPECT_EQ(outcome.output.find("The checkpoint of step 6 is put off: that of step 2"), std::string::npos) << "said once";
  const std::vector<int64_t> steps = StepsOf(config_);
  ASSERT_GE(steps.size(), 3u);
  EXPECT_EQ(steps[0], 2);
  EXPECT_GE(steps[1], 4) << "the first step after the one before has ended";
  EXPECT_LT(steps.size(), 20u);
  ExpectSameToTheBit(unbroken_, config_, 80);
}

// What is to be kept for ever, and the last.
TEST_F(BackgroundSaveTest, OneThatIsKeptWaitsForTheOneBefore) {
  SetUpRuns("training { steps: 10 checkpoint { every_steps: 2 keep_last: 1 keep_every: 4 } }");
  const RunOutcome outcome = RunSlowly(config_, 6);
  ExpectOutput(outcome, {"Saved checkpoint of step 4 in ", "Saved checkpoint of step 8 in ", "Saved checkpoint of step 10 in "});
  EXPECT_EQ(StepsOf(config_), (std::vector<int64_t>{4, 8, 10}));
  ExpectSameToTheBit(unbroken_, config_, 10);
}

TEST_F(BackgroundSaveTest, TheBestOfAnEarlyStopIsTheOneOfItsStep) {
  SetUpRuns(
      "model { layers: 2 } training { steps: 12 evaluate_every_steps: 1 checkpoint { every_steps: 5 keep_last: 1 } "
      "early_stop { evaluations: 11 } optimizer { learning_rate: 0.002 } }");
  const RunConfig config = With(config_, "data { held_out: '" + folder_ + "/held_out' }");
  const RunOutcome outcome = RunSlowly(config, 3);
  ExpectOutput(outcome, {"Saved checkpoint of step 1 in ", "Saved checkpoint of step 2 in "});
  EXPECT_EQ(outcome.output.find("Saved checkpoint of step 11 in") != std::string::npos,
            outcome.output.find("Saved checkpoint of step 12 in") != std::string::npos);
}

// A stop on request: complete when the run says so, whatever was in flight.
TEST_F(BackgroundSaveTest, AStopWaitsForWhatIsInFlightAndSavesItsOwnStep) {
  SetUpRuns("parallel { tensor: 2 data: 2 } training { steps: 6 checkpoint { every_steps: 2 keep_last: 0 } }");
  for (const int steps : {2, 3}) {
    std::filesystem::remove_all(config_.folder());
    const RunOutcome outcome = RunSlowly(config_, 6, steps);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    EXPECT_EQ(outcome.end, RunEnd::kStopped);
    EXPECT_EQ(StepsOf(config_), (steps == 2 ? std::vector<int64_t>{2} : std::vector<int64_t>{2, 3}));
    ExpectRecovers();
  }
}

// What was begun is good, whatever ends the run: here a loss that is not finite.
TEST_F(BackgroundSaveTest, ARunThatEndsByAnErrorCommitsWhatIsInFlight) {
  SetUpRuns("parallel { data: 2 } training { steps: 6 checkpoint { every_steps: 1 } }");
  const RunConfig config = With(config_, "training { optimizer { learning_rate: 1e37 clip_norm: 0 } }");
  const RunOutcome outcome = RunSlowly(config, 6);
  EXPECT_TRUE(absl::IsDataLoss(outcome.status)) << outcome.status;
  const int64_t newest = NewestStep(config);
  ASSERT_GE(newest, 1) << outcome.output;
  ExpectError(outcome.status, {"The checkpoint of step " + std::to_string(newest) + " is kept"});
}

// Room is made while training goes on.
TEST_F(BackgroundSaveTest, AFullDiskWarnsAndIsTriedAgain) {
  SetUpRuns("parallel { data: 2 } training { steps: 100 checkpoint { every_steps: 2 } }");
  FaultFileSystem disk(FileSystem::Posix());
  const RunOutcome outcome = RunTraining(config_, [&](int rank, RankRun& run) {
    run.options.fs = &disk;
    if (rank != 0) return;
    run.options.stop_requested = [&, full = 0]() mutable {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      if (full > 0 || NewestStep(config_) > 0) ++full;
      if (full == 1) disk.FillAfter(100);
      if (full == 10) disk.FillAfter(-1);
      return false;
    };
  });
  ExpectOutput(outcome, {"WARNING: the checkpoint of step ",
                         ": no space left on device. Training goes on; the newest checkpoint is of step ",
                         "; the next try is after step ", "Saved checkpoint of step 100 in"});
  EXPECT_TRUE(CheckpointContentOf(unbroken_, 100) == CheckpointContentOf(config_, 100));
}

TEST_F(BackgroundSaveTest, FailuresInARowEndTheRun) {
  SetUpRuns();
  const RunConfig config = With(config_, "training { steps: 4000 checkpoint { failed_saves: 3 } }");
  FaultFileSystem disk(FileSystem::Posix());
  const RunOutcome outcome = RunTraining(config, [&](int rank, RankRun& run) {
    if (rank == 1) run.options.fs = &disk;
    if (rank == 0) {
      run.options.stop_requested = [&] {
        if (NewestStep(config) > 0) disk.FillAfter(0);
        return false;
      };
    }
  });
  ExpectError(outcome.status, {" was not saved: ", "(3 failures in a row); the newest checkpoint is of step "});
  EXPECT_GE(NewestStep(config), 2);
}

// The run's folder of checkpoints is removed while one is written.
TEST_F(BackgroundSaveTest, AFolderThatIsRemovedWarnsAndIsMadeAgain) {
  SetUpRuns("training { steps: 20 checkpoint { every_steps: 2 } }");
  InterruptedFileSystem disk(FileSystem::Posix(), -1, [] {});
  disk.BeforeCreating("rank-00000.bin",
                      [&] { std::filesystem::remove_all(config_.folder() + "/checkpoints"); });
  const RunOutcome outcome = RunTraining(config_, [&](int, RankRun& run) { run.options.fs = &disk; });
  ExpectOutput(outcome, {"WARNING: the checkpoint of step 2 was not saved: ", "no such file or directory",
                         "there is no checkpoint yet; the next try is after step ", "Saved checkpoint of step 20 in"});
  ExpectSameToTheBit(unbroken_, config_, 20);
}

// The machine dies at some call that changes the disk; started again, the run ends with the same bits.
TEST_F(BackgroundSaveTest, ACrashAtAnyMomentLosesAtMostTheStepsSinceTheLastSave) {
  SetUpRuns("model { layers: 2 } parallel { data: 2 } training { steps: 4 checkpoint { every_steps: 1 keep_last: 1 } }");
  FaultFileSystem counting(FileSystem::Posix());
  ASSERT_TRUE(RunTraining(config_, [&](int, RankRun& run) { run.options.fs = &counting; }).status.ok());
  const int64_t calls = counting.calls();
  int64_t unfinished = 0;
  for (int64_t call = 1; call < calls; ++call) {
    SCOPED_TRACE(call);
    std::filesystem::remove_all(config_.folder());
    FaultFileSystem disk(FileSystem::Posix());
    disk.CrashAt(call, call % 2 == 0 ? FaultFileSystem::Crash::kKill : FaultFileSystem::Crash::kPowerCut);
    const RunOutcome outcome = RunTraining(config_, [&](int, RankRun& run) { run.options.fs = &disk; });
    if (!outcome.status.ok()) ExpectError(outcome.status, {"crashed (injected)"});
    std::vector<std::string> ignored;
    const auto complete = CompleteCheckpoints(FileSystem::Posix(), config_.folder() + "/checkpoints", &ignored);
    unfinished += ignored.empty() ? 0 : 1;
    ASSERT_TRUE(complete.ok());
    for (const std::string& path : *complete) {
      EXPECT_EQ(CheckpointContentOf(config_, StepOf(path)).size(), CheckpointContentOf(unbroken_, 4).size());
    }
    if (call % 8 == 1) ExpectRecovers();
  }
  EXPECT_GT(unfinished, 5);
}

TEST_F(BackgroundSaveTest, ItsTimesAreInTheMetrics) {
  SetUpRuns("training { steps: 40 checkpoint { every_steps: 2 keep_last: 0 } }");
  ASSERT_TRUE(RunSlowly(config_, 1).status.ok());
  std::ifstream file(config_.folder() + "/metrics.jsonl");
  std::vector<int64_t> steps;
  for (std::string line; std::getline(file, line);) {
    const auto json = nlohmann::json::parse(line);
    if (!json.contains("saved_step")) continue;
    steps.push_back(json["saved_step"].get<int64_t>());
    EXPECT_GT(json["step"].get<int64_t>(), steps.back());
    EXPECT_GT(json["save_write_seconds"].get<double>(), 0);
    EXPECT_GT(json["save_stall_seconds"].get<double>(), 0);
  }
  ASSERT_FALSE(steps.empty());
  EXPECT_EQ(steps[0], 2);
}

}  // namespace
}  // namespace trefoil
