#include "training/trainer.h"

#include <google/protobuf/text_format.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/files/folder_lock.h"
#include "runtime/host/process_memory.h"
#include "runtime/version.h"
#include "tests/runtime/files/fault_file_system.h"
#include "tests/runtime/files/odd_file_systems.h"
#include "tests/training/trainer_testing.h"

namespace trefoil {
namespace {

TEST_F(TrainTest, WritesWhatItSaysIntoItsFolder) {
  SetUpRuns();
  EXPECT_EQ(Losses(unbroken_).size(), 6u);
  RunConfig read;
  const auto text = ReadFile(FileSystem::Posix(), unbroken_.folder() + "/config.pbtxt");
  ASSERT_TRUE(text.ok());
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(*text, &read));
  EXPECT_EQ(read.ShortDebugString(), unbroken_.ShortDebugString());
  EXPECT_NE(text->find("# By trefoil " + VersionText()), std::string::npos) << *text;
  const auto names = FileSystem::Posix().List(unbroken_.folder() + "/checkpoints");
  ASSERT_TRUE(names.ok());
  EXPECT_EQ(*names, (std::vector<std::string>{"step-00000004", "step-00000006"})) << "keep_last is 2";
  EXPECT_EQ(Glob(unbroken_.folder() + "/*tfevents*").size(), 1u);
}

TEST_F(TrainTest, KeepsTheTokenizerBesideItsCheckpoints) {
  const std::string folder = NewFolder("tokenizer");
  const std::string path = folder + "/some.model";
  const RunConfig config = TinyRun(folder, "data { tokenizer: '" + path + "' } training { steps: 1 }");
  ExpectError(RunTraining(config).status, {"data.tokenizer: ", path, "no such file"});
  ASSERT_TRUE(WriteFileAtomically(FileSystem::Posix(), path, "a tokenizer").ok());
  ASSERT_TRUE(RunTraining(config).status.ok());
  const auto copy = ReadFile(FileSystem::Posix(), config.folder() + "/tokenizer.model");
  ASSERT_TRUE(copy.ok()) << copy.status();
  EXPECT_EQ(*copy, "a tokenizer");
}

TEST_F(TrainTest, AThousandStepsTakeNoMemory) {
  const RunConfig config = TinyRun(
      NewFolder("thousand"), "parallel { tensor: 2 pipeline: 2 } training { steps: 1200 micro_batch: 2 }");
  int64_t before = 0, after = 0;
  const RunOutcome outcome = RunTraining(config, [&](int rank, RankRun& run) {
    if (rank != 0) return;
    run.options.stop_requested = [&, step = -1]() mutable {
      if (++step == 200) before = Resident();
      if (step == 1200) after = Resident();
      return false;
    };
  });
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  ASSERT_GT(before, 0);
  // Less than half a KiB a step: the lines that this test keeps are that.
  EXPECT_LT(after - before, 512 << 10);
}

TEST_F(TrainTest, ALossThatIsNotFiniteStopsTheRunAndKeepsTheCheckpoint) {
  SetUpRuns();
  const RunOutcome before = RunAndStopAfter(config_, 3);
  ASSERT_TRUE(before.status.ok());
  // Step 4 makes the weights absurd, and step 5 shows it.
  const RunConfig absurd =
      With(config_, "training { checkpoint { every_steps: 100 } optimizer { learning_rate: 1e30 } }");
  const RunOutcome outcome = RunTraining(absurd);
  EXPECT_TRUE(absl::IsDataLoss(outcome.status));
  ExpectError(outcome.status, {"step 5: the ", ", must be finite; the parameters were not updated", "learning_rate",
                               "The checkpoint of step 3 is kept"});
  EXPECT_EQ(NewestStep(config_), 3);
  ExpectRecovers();
}

// What a step says of all ranks, of the run so far and of the clock.
TEST_F(TrainTest, EachLineSaysWhenHowFarAndHowFastTheRanksAre) {
  SetUpRuns(std::string(kFour) + " training { steps: 14 }");
  ASSERT_TRUE(RunAndStopAfter(config_, 5).status.ok());
  ASSERT_TRUE(RunTraining(config_).status.ok());
  std::ifstream file(config_.folder() + "/metrics.jsonl");
  int64_t step = 0;
  std::string time;
  for (std::string line; std::getline(file, line);) {
    SCOPED_TRACE(line);
    const auto json = nlohmann::json::parse(line);
    EXPECT_EQ(json["step"], ++step);
    EXPECT_LE(time, json["time"]);
    time = json["time"];
    EXPECT_EQ(json["total_samples"], 8 * step);
    EXPECT_EQ(json["total_tokens"], 8 * 16 * step);
    EXPECT_EQ(json["epoch"].get<double>(), 8.0 * static_cast<double>(step) / 100);
    const double seconds = json["seconds"], work = json["slowest_work_seconds"], median = json["median_work_seconds"];
    EXPECT_GT(median, 0);
    EXPECT_GE(work, median);
    EXPECT_LT(json["slowest_rank"], 4);
    EXPECT_GE(json["slowest_rank"], 0);
    EXPECT_EQ(json["slowest_host"], "localhost");
    EXPECT_GT(json["communication_seconds"], 0);
    EXPECT_LE(json["communication_seconds"], seconds);
    EXPECT_LE(json["data_seconds"], 1);
    EXPECT_GT(json["reserved_bytes"], 0);
    EXPECT_GT(json["resident_bytes"], 1 << 20);
  }
  EXPECT_EQ(step, 14);
}

// Killed before the first save: its lines are kept under another name, and the run begins again.
TEST_F(TrainTest, ARunThatLeftNoCheckpointKeepsItsMetrics) {
  SetUpRuns();
  FaultFileSystem disk(FileSystem::Posix());
  const RunConfig late = With(config_, "training { checkpoint { every_steps: 100 } }");
  EXPECT_FALSE(RunTraining(late, [&](int rank, RankRun& run) {
                 run.options.fs = &disk;
                 if (rank != 0) return;
                 run.options.stop_requested = [&, step = -1]() mutable {
                   if (++step == 4) disk.CrashAt(disk.calls());
                   return false;
                 };
               }).status.ok());
  const RunOutcome outcome = RunTraining(config_);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_NE(outcome.output.find("it is kept as metrics.1.jsonl"), std::string::npos) << outcome.output;
  ExpectSameToTheBit(unbroken_, config_, 6);
  std::filesystem::rename(config_.folder() + "/metrics.1.jsonl", config_.folder() + "/metrics.jsonl");
  std::vector<std::string> lines = MetricLines(unbroken_);
  lines.resize(3);
  EXPECT_EQ(MetricLines(config_), lines) << "without the half of the fourth";
}

TEST_F(TrainTest, KeepsWhatItIsToldToKeep) {
  int runs = 0;
  const auto kept = [&](const std::string& policy) {
    const RunConfig config = TinyRun(NewFolder("keep" + std::to_string(runs++)), "model { layers: 1 } training { steps: 7 checkpoint { "
                                                                      "every_steps: 1 " + policy + " } }");
    EXPECT_TRUE(RunTraining(config).status.ok());
    std::string steps;
    const auto names = FileSystem::Posix().List(config.folder() + "/checkpoints");
    for (const std::string& name : *names) steps += name.back();
    return steps;
  };
  EXPECT_EQ(kept(""), "67");
  EXPECT_EQ(kept("keep_last: 0"), "1234567");
  EXPECT_EQ(kept("keep_last: 1"), "7");
  EXPECT_EQ(kept("keep_every: 3"), "3567");
}

// Two starts at once of one run: the other's lock is there.
TEST_F(TrainTest, AFolderInUseIsRefusedAndLeftAlone) {
  SetUpRuns();
  std::unique_ptr<FolderLock> other;
  const auto snapshot = [&] {
    std::string all;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(unbroken_.folder())) {
      all += entry.path().string() + "\n";
      if (entry.is_regular_file()) all += *ReadFile(FileSystem::Posix(), entry.path().string());
    }
    return all;
  };
  const std::string before = snapshot();
  const RunOutcome outcome = RunTraining(With(unbroken_, "training { steps: 9 }"), [&](int rank, RankRun&) {
    if (rank == 0) other = *FolderLock::Take(FileSystem::Posix(), unbroken_.folder());
  });
  EXPECT_TRUE(absl::IsFailedPrecondition(outcome.status));
  ExpectError(outcome.status, {"folder: " + unbroken_.folder() + " is in use by host ", ", process ", ", since 2",
                               "last heartbeat 0 s ago", "use another folder"});
  other.reset();
  EXPECT_TRUE(snapshot() == before);
}

// A job that another has taken the folder over from stops before it saves.
TEST_F(TrainTest, ARunThatLostItsFolderSavesNothingMore) {
  SetUpRuns();
  const std::string lock = config_.folder() + "/lock";
  const RunOutcome outcome = RunTraining(config_, [&](int rank, RankRun& run) {
    if (rank != 0) return;
    run.options.stop_requested = [&, step = -1]() mutable {
      if (++step == 4) WriteFileAtomically(FileSystem::Posix(), lock, R"({"id":"f","host":"n7","process":3})").IgnoreError();
      return false;
    };
  });
  EXPECT_TRUE(absl::IsFailedPrecondition(outcome.status));
  ExpectError(outcome.status, {config_.folder() + " has been taken over by host n7, process 3"});
  EXPECT_EQ(NewestStep(config_), 2);
  EXPECT_EQ(*FileSystem::Posix().List(config_.folder() + "/checkpoints"), std::vector<std::string>{"step-00000002"});
  EXPECT_EQ(*ReadFile(FileSystem::Posix(), lock), R"({"id":"f","host":"n7","process":3})");
  ExpectRecovers();
}

// Hosts with a folder each under the one name.
TEST_F(TrainTest, AFolderThatIsNotSharedIsFoundBeforeTheFirstStep) {
  SetUpRuns();
  SeparateFileSystem separate(FileSystem::Posix(), config_.folder(), folder_ + "/elsewhere");
  const RunOutcome outcome = RunTraining(config_, [&](int rank, RankRun& run) {
    if (rank == 2) run.options.fs = &separate;
  });
  ExpectError(outcome.status, {"rank 2 on ", "folder: this rank does not see the folder " + config_.folder() +
                                                 " that rank 0 has taken (",
                               "all hosts must share it"});
  EXPECT_EQ(*FileSystem::Posix().List(config_.folder()), std::vector<std::string>{});
}

TEST_F(TrainTest, NoRoomForACheckpointIsFoundBeforeTheFirstStep) {
  SetUpRuns();
  SmallFileSystem small(FileSystem::Posix(), 100000);
  const RunOutcome outcome = RunTraining(config_, [&](int rank, RankRun& run) {
    if (rank == 0) run.options.fs = &small;
  });
  EXPECT_TRUE(absl::IsResourceExhausted(outcome.status));
  ExpectError(outcome.status, {"folder: " + config_.folder() + " has ", " free, but a checkpoint of this model takes "});
  EXPECT_FALSE(std::filesystem::exists(config_.folder()));
}

TEST_F(TrainTest, ACheckpointOfAnotherModelIsRefusedByField) {
  SetUpRuns();
  const RunConfig other = With(unbroken_, "model { layers: 3 feed_forward: 48 }");
  const RunOutcome outcome = RunTraining(other);
  ExpectError(outcome.status, {unbroken_.folder() + "/checkpoints/step-00000006 is a checkpoint of another model:",
                               "model.layers: 2 in the checkpoint, 3 in this run",
                               "model.feed_forward: 64 in the checkpoint, 48 in this run"});
  EXPECT_EQ(outcome.status.message().find("hidden"), std::string::npos) << outcome.status;
  // The same through initial_weights.
  const RunConfig weights = With(other, "folder: '" + folder_ + "/weights' training { checkpoint { initial_weights: '" +
                                            unbroken_.folder() + "/checkpoints/step-00000006' } }");
  ExpectError(RunTraining(weights).status, {"training.checkpoint.initial_weights: ", "is a checkpoint of another model:",
                                    "model.layers: 2", "Give the weights' model, or weights of this one."});
  // Rotary positions allow a longer context: no parameter changes, though samples do.
  const RunConfig longer = With(unbroken_, "model { sequence_length: 20 } training { steps: 7 }");
  EXPECT_TRUE(RunTraining(longer, [](int, RankRun& run) { run.options.allow_change = true; }).status.ok());
}

}  // namespace
}  // namespace trefoil
