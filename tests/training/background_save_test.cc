// training.checkpoint.writing BACKGROUND: saves beside the steps that follow.
#include <array>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

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
  // With a disk on which a save is not written before `lag` more steps are computed. A run that is to wait for a save
  // must do so after as many steps.
  static RunOutcome RunSlowly(const RunConfig& config, int lag, int stop_after = -1) {
    HeldFileSystem disk(FileSystem::Posix());
    return RunTraining(config, [&](int rank, RankRun& run) {
      run.options.fs = &disk;
      if (rank != 0) return;
      run.options.stop_requested = [&disk, lag, stop_after, steps = config.training().steps(), step = 0]() mutable {
        const bool stop = step == stop_after;
        disk.Release(stop || step == steps ? steps : step - lag);
        ++step;
        return stop;
      };
    });
  }
};

// On several layouts, with data files that are written after steps have changed the state. Each save is kept, so the
// next waits for it.
TEST_F(BackgroundSaveTest, ItsCheckpointsAreThoseOfTheForegroundToTheBit) {
  for (const char* layout :
       {"data: 1", "tensor: 2 data: 2", "data: 2 zero: NONE", "pipeline: 2 data: 2 zero: WEIGHTS schedule: GPIPE"}) {
    SCOPED_TRACE(layout);
    SetUpRuns(std::string("model { layers: 2 } parallel { ") + layout +
              " } training { steps: 8 checkpoint { every_steps: 2 keep_last: 1 keep_every: 2 } }");
    ASSERT_TRUE(RunSlowly(config_, 2).status.ok());
    ExpectSameToTheBit(unbroken_, config_, 8);
    const std::vector<int64_t> steps = StepsOf(config_);
    EXPECT_EQ(steps, (std::vector<int64_t>{2, 4, 6, 8}));
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
  SetUpRuns("parallel { data: 2 } training { steps: 12 checkpoint { every_steps: 2 keep_last: 0 } }");
  const RunOutcome outcome = RunSlowly(config_, 7);
  ExpectOutput(outcome, {"The checkpoint of step 4 is put off: that of step 2 is still being written.\n",
                         "Saved checkpoint of step 2 in ", " s in the background; training waited ",
                         "Saved checkpoint of step 12 in "});
  EXPECT_EQ(outcome.output.find("The checkpoint of step 6 is put off: that of step 2"), std::string::npos) << "said once";
  const std::vector<int64_t> steps = StepsOf(config_);
  EXPECT_EQ(steps.front(), 2);
  EXPECT_EQ(steps.back(), 12);
  EXPECT_GE(steps[1], 9) << "the first step after the one before has ended";
  ExpectSameToTheBit(unbroken_, config_, 12);
}

TEST_F(BackgroundSaveTest, TheBestOfAnEarlyStopIsTheOneOfItsStep) {
  SetUpRuns(
      "model { layers: 2 } training { steps: 12 evaluate_every_steps: 1 checkpoint { every_steps: 5 keep_last: 1 } "
      "early_stop { evaluations: 11 } optimizer { learning_rate: 0.002 } }");
  const RunConfig config = With(config_, "data { held_out: '" + folder_ + "/held_out' }");
  const RunOutcome outcome = RunSlowly(config, 1);
  ExpectOutput(outcome, {"Saved checkpoint of step 1 in ", "Saved checkpoint of step 2 in "});
  EXPECT_EQ(outcome.output.find("Saved checkpoint of step 11 in") != std::string::npos,
            outcome.output.find("Saved checkpoint of step 12 in") != std::string::npos);
}

// A stop on request: complete when the run says so, whatever was in flight.
TEST_F(BackgroundSaveTest, AStopWaitsForWhatIsInFlightAndSavesItsOwnStep) {
  SetUpRuns("parallel { tensor: 2 data: 2 } training { steps: 6 checkpoint { every_steps: 2 keep_last: 0 } }");
  for (const int steps : {2, 3}) {
    std::filesystem::remove_all(config_.folder());
    const RunOutcome outcome = RunSlowly(config_, 9, steps);
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
  const RunOutcome outcome = RunSlowly(config, 1);
  EXPECT_TRUE(absl::IsDataLoss(outcome.status)) << outcome.status;
  const int64_t newest = NewestStep(config);
  ASSERT_GE(newest, 1) << outcome.output;
  ExpectError(outcome.status, {"The checkpoint of step " + std::to_string(newest) + " is kept"});
}

// The call of FaultFileSystem::CrashWhen as it is in every run: without the folder of the runs and the lock's id, but
// with the number that it is of its kind.
class Calls {
 public:
  std::string NameOf(const std::string& call) {
    std::string name = call.substr(0, call.find(' ')) + call.substr(call.rfind("/checkpoints"));
    constexpr size_t kId = 17;  // ".0123456789abcdef"
    if (const size_t at = name.find(".partial"); at != std::string::npos) name.erase(at - kId, kId);
    return name + " " + std::to_string(++seen_[name]);
  }

 private:
  std::map<std::string, int> seen_;
};

// The machine dies, or rank 1's file system does, at each call that saves make of it: what is complete is whole, no
// checkpoint is lost that was said to be saved, and the run that is started again ends with the same bits.
TEST_F(BackgroundSaveTest, ACrashAtAnyCallLosesNothingThatWasSaved) {
  // Each evaluation is the best, and so waits for the save before: all are made, by the same calls in every run.
  SetUpRuns("model { layers: 1 } parallel { data: 2 } training { steps: 4 evaluate_every_steps: 1 evaluate_samples: 8 "
            "early_stop { evaluations: 3 } checkpoint { every_steps: 1 keep_last: 1 } }");
  const std::string held_out = "data { held_out: '" + folder_ + "/held_out' }";
  unbroken_ = With(unbroken_, held_out);
  config_ = With(config_, held_out);
  std::filesystem::remove_all(unbroken_.folder());
  ASSERT_TRUE(RunTraining(unbroken_).status.ok());
  const RunConfig all = With(unbroken_, "folder: '" + folder_ + "/all' training { checkpoint { keep_last: 0 } }");
  ASSERT_TRUE(RunTraining(all).status.ok());
  ASSERT_EQ(StepsOf(all), (std::vector<int64_t>{1, 2, 3, 4}));

  std::set<std::string> calls;
  FaultFileSystem watched(FileSystem::Posix());
  watched.CrashWhen([&, names = Calls()](const std::string& call) mutable {
    if (call.find("/checkpoints") != std::string::npos) calls.insert(names.NameOf(call));
    return false;
  });
  const RunOutcome whole = RunTraining(config_, [&](int, RankRun& run) { run.options.fs = &watched; });
  for (const char* step : {"1", "2", "3"}) ExpectOutput(whole, {"Saved checkpoint of step " + std::string(step) + " in "});
  ASSERT_GT(calls.size(), 100u);

  int unfinished = 0, crashes = 0;
  const auto crash = [&](const std::string& at, bool machine, FaultFileSystem::Crash how) {
    SCOPED_TRACE(at);
    std::filesystem::remove_all(config_.folder());
    FaultFileSystem disk(FileSystem::Posix());
    disk.CrashWhen(
        [&, names = Calls()](const std::string& call) mutable {
          return call.find("/checkpoints") != std::string::npos && names.NameOf(call) == at;
        },
        how);
    const RunOutcome outcome = RunTraining(config_, [&](int rank, RankRun& run) {
      if (machine || rank == 1) run.options.fs = &disk;
    });
    ASSERT_TRUE(disk.crashed());
    ++crashes;
    if (!outcome.status.ok()) ExpectError(outcome.status, {"crashed (injected)"});
    std::vector<std::string> ignored;
    const auto complete = CompleteCheckpoints(FileSystem::Posix(), config_.folder() + "/checkpoints", &ignored);
    ASSERT_TRUE(complete.ok()) << complete.status();
    unfinished += ignored.empty() ? 0 : 1;
    for (const std::string& path : *complete) {
      EXPECT_TRUE(CheckpointContentOf(config_, StepOf(path)) == CheckpointContentOf(all, StepOf(path))) << path;
    }
    for (int64_t step = NewestStep(config_) + 1; step <= 4; ++step) {
      EXPECT_EQ(outcome.output.find("Saved checkpoint of step " + std::to_string(step) + " in"), std::string::npos)
          << outcome.output;
    }
    ExpectRecovers();
  };
  // Of the first two saves and of what is removed; each kind of call of one of them is a kill, of the other a power cut.
  using Crash = FaultFileSystem::Crash;
  std::array<int, 2> number = {};
  for (const std::string& at : calls) {
    const bool removed = at.find(".deleted") != std::string::npos;
    const auto of_step = [&](const char* step) { return at.find(step) != std::string::npos; };
    if (!removed && (of_step("step-00000003") || of_step("step-00000004"))) continue;
    const size_t second = of_step("step-00000002") ? 1 : 0;
    // Of what is appended to one file a part will do.
    if (at.starts_with("append") && std::stoi(at.substr(at.rfind(' '))) % 8 != 1) continue;
    crash(at, true, (number[second]++ + second) % 2 == 0 ? Crash::kKill : Crash::kPowerCut);
    if (second == 1 && !removed && at.find("rank-00001") != std::string::npos) crash(at, false, Crash::kKill);
  }
  EXPECT_GT(unfinished, crashes / 3);
  std::cout << calls.size() << " calls, " << crashes << " crashes, " << unfinished << " during a save\n";
}

TEST_F(BackgroundSaveTest, ItsTimesAreInTheMetrics) {
  SetUpRuns("training { steps: 6 checkpoint { every_steps: 2 keep_last: 1 keep_every: 2 } }");
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
