#include "training/trainer.h"

#include <google/protobuf/text_format.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/folder_lock.h"
#include "runtime/process_memory.h"
#include "runtime/version.h"
#include "tests/runtime/fault_file_system.h"
#include "tests/runtime/odd_file_systems.h"
#include "tests/training/run_testing.h"

namespace trefoil {
namespace {

constexpr char kFour[] =
    "model { layers: 2 } parallel { tensor: 2 data: 2 } training { steps: 6 checkpoint { every_steps: 2 } }";

void ExpectError(const absl::Status& status, const std::vector<std::string>& parts) {
  ASSERT_FALSE(status.ok());
  for (const std::string& part : parts) {
    EXPECT_NE(status.message().find(part), std::string::npos) << status << "\nlacks: " << part;
  }
}

class TrainTest : public testing::Test {
 protected:
  // The run as it should be, and another in a folder of its own that will meet trouble.
  void SetUpRuns(const std::string& more = kFour) {
    folder_ = NewFolder("runs");
    unbroken_ = TinyRun(folder_, more);
    const RunOutcome outcome = RunTraining(unbroken_);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    config_ = With(unbroken_, "folder: '" + folder_ + "/other'");
  }
  // The run goes on to its end as if nothing had happened.
  void ExpectRecovers() {
    const RunOutcome outcome = RunTraining(config_);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    ExpectSameToTheBit(unbroken_, config_, unbroken_.training().steps());
  }

  std::string folder_;
  RunConfig unbroken_, config_;
};

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
    EXPECT_GT(json["held_bytes"], 0);
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

TEST_F(TrainTest, AFullDiskDuringASaveKeepsTheCheckpointBefore) {
  SetUpRuns();
  const int64_t bytes = static_cast<int64_t>(
      std::filesystem::file_size(unbroken_.folder() + "/checkpoints/step-00000004/rank-00000.bin"));
  ASSERT_GT(bytes, 1000);
  // Of all ranks' disk, in the second save; and of one rank's own.
  for (const int full_rank : {-1, 0, 3}) {
    std::filesystem::remove_all(config_.folder());
    FaultFileSystem disk(FileSystem::Posix());
    disk.FillAfter(full_rank < 0 ? 5 * bytes : bytes + bytes / 2);
    const RunOutcome outcome = RunTraining(config_, [&](int rank, RankRun& run) {
      if (full_rank < 0 || rank == full_rank) run.options.fs = &disk;
    });
    EXPECT_TRUE(absl::IsResourceExhausted(outcome.status));
    ExpectError(outcome.status, {"the checkpoint of step 6 was not saved: ", "/step-00000006.", ".partial/rank-0000",
                                 ": no space left on device (3 failures in a row); the newest checkpoint is of step 2"});
    for (const char* part : {"WARNING: the checkpoint of step 4 was not saved: ", "/step-00000004.",
                             "Training goes on; the newest checkpoint is of step 2; the next try is after step 5 "
                             "(failure 1 in a row; 10 end the run).",
                             "WARNING: the checkpoint of step 5 was not saved: ", "the next try is after step 6"}) {
      EXPECT_NE(outcome.output.find(part), std::string::npos) << part << " is missing:\n" << outcome.output;
    }
    EXPECT_NE(outcome.output.find("step 6/6"), std::string::npos) << "training goes on";
    // Where the metrics are on that disk too, lines are lost, and that is said.
    EXPECT_EQ(Losses(config_).size() == 6u, full_rank == 3);
    EXPECT_EQ(outcome.output.find(config_.folder() + "/metrics.jsonl: no space left on device. Training goes on.\n") ==
                  std::string::npos,
              full_rank == 3)
        << outcome.output;
    EXPECT_EQ(NewestStep(config_), 2) << full_rank;
    ExpectRecovers();
  }
}

// Room is made while training goes on: the next try saves, and nothing is lost but lines of metrics.
TEST_F(TrainTest, ASaveThatFailedIsTriedAgain) {
  SetUpRuns();
  FaultFileSystem disk(FileSystem::Posix());
  const RunOutcome outcome = RunTraining(config_, [&](int rank, RankRun& run) {
    run.options.fs = &disk;
    if (rank != 0) return;
    run.options.stop_requested = [&, step = -1]() mutable {
      if (++step == 3) disk.FillAfter(100);
      if (step == 5) disk.FillAfter(-1);
      return false;
    };
  });
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_NE(outcome.output.find("WARNING: the checkpoint of step 4 was not saved: "), std::string::npos) << outcome.output;
  EXPECT_NE(outcome.output.find("Saved checkpoint of step 5 in"), std::string::npos) << outcome.output;
  EXPECT_EQ(*FileSystem::Posix().List(config_.folder() + "/checkpoints"),
            (std::vector<std::string>{"step-00000005", "step-00000006"}));
  EXPECT_TRUE(CheckpointContentOf(unbroken_, 6) == CheckpointContentOf(config_, 6));
  EXPECT_NE(outcome.output.find("Metrics are written again, from step 5 on; those of steps 3 to 4 are lost.\n"),
            std::string::npos)
      << outcome.output;
  std::vector<std::string> lines = MetricLines(unbroken_);
  lines.erase(lines.begin() + 2, lines.begin() + 4);
  EXPECT_EQ(MetricLines(config_), lines);
}

// training.checkpoint.failed_saves.
TEST_F(TrainTest, SavesThatFailInARowEndTheRun) {
  SetUpRuns();
  const RunConfig config = With(config_, "training { steps: 40 checkpoint { failed_saves: 3 } }");
  FaultFileSystem disk(FileSystem::Posix());
  const RunOutcome outcome = RunTraining(config, [&](int rank, RankRun& run) {
    run.options.fs = &disk;
    if (rank != 0) return;
    run.options.stop_requested = [&, step = -1]() mutable {
      if (++step == 10) disk.FillAfter(0);
      return false;
    };
  });
  ExpectError(outcome.status, {"the checkpoint of step 12 was not saved: ",
                               "(3 failures in a row); the newest checkpoint is of step 8"});
  EXPECT_NE(outcome.output.find("step 12/40"), std::string::npos) << outcome.output;
  EXPECT_EQ(Losses(config).size(), 9u) << "the metrics' lines find no room either";
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

// The machine dies at some call that changes the disk, on all ranks or on one; started again, the run ends with the
// same bits.
TEST_F(TrainTest, ACrashAtAnyMomentLosesAtMostTheStepsSinceTheLastSave) {
  SetUpRuns(
      "model { layers: 2 } parallel { data: 2 } training { steps: 4 checkpoint { every_steps: 1 keep_last: 1 } }");
  FaultFileSystem counting(FileSystem::Posix());
  ASSERT_TRUE(RunTraining(config_, [&](int, RankRun& run) { run.options.fs = &counting; }).status.ok());
  const int64_t calls = counting.calls();
  ASSERT_GT(calls, 60);
  int64_t newest = -1;
  for (int64_t call = 1; call < calls; call += 9) {
    std::filesystem::remove_all(config_.folder());
    FaultFileSystem disk(FileSystem::Posix());
    disk.CrashAt(call, call % 2 == 0 ? FaultFileSystem::Crash::kKill : FaultFileSystem::Crash::kPowerCut);
    const RunOutcome outcome = RunTraining(config_, [&](int, RankRun& run) { run.options.fs = &disk; });
    ASSERT_TRUE(disk.crashed()) << call;
    if (!outcome.status.ok()) ExpectError(outcome.status, {"crashed (injected)"});
    EXPECT_GE(NewestStep(config_), newest) << "a later crash, an older checkpoint";
    newest = NewestStep(config_);
    ExpectRecovers();
  }
  EXPECT_GE(newest, 3);
}

TEST_F(TrainTest, ACrashOfOneRanksFileSystemReachesAll) {
  SetUpRuns();
  for (int bad_rank = 0; bad_rank < 4; ++bad_rank) {
    for (const int64_t call : {0, 3, 6}) {
      std::filesystem::remove_all(config_.folder());
      FaultFileSystem disk(FileSystem::Posix());
      disk.CrashAt(call);
      const RunOutcome outcome = RunTraining(config_, [&](int rank, RankRun& run) {
        if (rank == bad_rank) run.options.fs = &disk;
      });
      EXPECT_TRUE(disk.crashed());
      ExpectError(outcome.status, {"crashed (injected)"});
      ExpectRecovers();
    }
  }
}

// A rank that cannot see the run's checkpoints, such as on a host without the shared folder.
TEST_F(TrainTest, ARankThatCannotReadTheCheckpointStopsAll) {
  SetUpRuns();
  ASSERT_TRUE(RunAndStopAfter(config_, 3).status.ok());
  for (int bad_rank = 0; bad_rank < 4; ++bad_rank) {
    FaultFileSystem disk(FileSystem::Posix());
    disk.CrashAt(0);
    EXPECT_FALSE(disk.MakeFolder(folder_ + "/nothing").ok());
    const RunOutcome outcome = RunTraining(config_, [&](int rank, RankRun& run) {
      if (rank == bad_rank) run.options.fs = &disk;
    });
    ExpectError(outcome.status, {"crashed (injected)", config_.folder()});
  }
  EXPECT_EQ(NewestStep(config_), 3);
  ExpectRecovers();
}

// Rank 0 says which checkpoint it is, also to a rank that finds none by itself.
TEST_F(TrainTest, RanksDoNotChooseTheirCheckpointByThemselves) {
  SetUpRuns();
  const RunOutcome outcome = RunTraining(unbroken_, [&](int rank, RankRun& run) {
    if (rank == 3) run.config.set_folder(folder_ + "/nothing");
  });
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_NE(outcome.output.find("This run is finished: step 6 of 6"), std::string::npos) << outcome.output;
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

// One after the other way of damage: the run goes on from the checkpoint before, says so, and keeps what is damaged.
TEST_F(TrainTest, ADamagedCheckpointIsPassedOverForTheOneBeforeAndKept) {
  SetUpRuns();
  const std::string newest = unbroken_.folder() + "/checkpoints/step-00000006";
  const std::string copy = folder_ + "/copy";
  std::filesystem::copy(newest, copy, std::filesystem::copy_options::recursive);
  const auto flip = [](const std::string& path) {
    std::fstream(path, std::ios::in | std::ios::out | std::ios::binary).seekp(100).put('\x5a').put('\x5a');
  };
  const std::vector<std::pair<std::string, std::function<void()>>> ways = {
      {"rank-00002.bin: damaged: tensor", [&] { flip(newest + "/rank-00002.bin"); }},
      {"rank-00001.bin: truncated: ", [&] { std::filesystem::resize_file(newest + "/rank-00001.bin", 99); }},
      {"rank-00003.bin: no such file", [&] { std::filesystem::remove(newest + "/rank-00003.bin"); }},
      {"manifest.json: damaged or truncated", [&] { flip(newest + "/manifest.json"); }},
      {"manifest.json: truncated: 0 bytes", [&] { std::filesystem::resize_file(newest + "/manifest.json", 0); }},
      {"manifest.json: no such file", [&] {
         std::filesystem::remove_all(newest);
         std::filesystem::create_directory(newest);
       }}};
  const auto expected = CheckpointContentOf(unbroken_, 6);
  for (const auto& [error, damage] : ways) {
    SCOPED_TRACE(error);
    damage();
    const RunOutcome outcome = RunTraining(unbroken_);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    for (const std::string& part :
         {"WARNING: " + newest + " is damaged: ", newest + "/" + error,
          "Resuming from " + unbroken_.folder() + "/checkpoints/step-00000004 (step 4",
          "WARNING: going back to " + unbroken_.folder() + "/checkpoints/step-00000004, the newest that is whole; the "
          "damaged one is kept as " + newest + ".damaged."}) {
      EXPECT_NE(outcome.output.find(part), std::string::npos) << part << " is missing:\n" << outcome.output;
    }
    EXPECT_TRUE(CheckpointContentOf(unbroken_, 6) == expected);
    EXPECT_TRUE(std::filesystem::exists(newest + ".damaged"));
    std::filesystem::remove_all(newest + ".damaged");
  }
}

TEST_F(TrainTest, WithoutAWholeCheckpointTheRunDoesNotStartAnew) {
  SetUpRuns();
  const std::string folder = unbroken_.folder() + "/checkpoints/";
  std::filesystem::resize_file(folder + "step-00000006/manifest.json", 10);
  std::filesystem::resize_file(folder + "step-00000004/rank-00002.bin", 10);
  const RunOutcome outcome = RunTraining(With(unbroken_, "training { steps: 9 }"));
  EXPECT_TRUE(absl::IsDataLoss(outcome.status));
  ExpectError(outcome.status, {"no checkpoint of the run is whole, damaged: ", folder + "step-00000006", folder + "step-00000004"});
  EXPECT_EQ(*FileSystem::Posix().List(folder), (std::vector<std::string>{"step-00000004", "step-00000006"}));
  EXPECT_EQ(Losses(unbroken_).size(), 6u);
  std::filesystem::resize_file(folder + "step-00000004/manifest.json", 10);
  ExpectError(RunTraining(unbroken_).status, {"no checkpoint of the run is whole"});
}

class BadInput : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = NewFolder("run");
    config_ = TinyRun(folder_, kFour);
  }
  absl::Status Try(const std::string& more) { return RunTraining(With(config_, more)).status; }

  std::string folder_;
  RunConfig config_;
};

TEST_F(BadInput, TokenFileThatIsMissing) {
  std::filesystem::remove(folder_ + "/train.idx");
  ExpectError(Try(""), {folder_ + "/train.idx"});
  config_.mutable_data()->set_train(0, folder_ + "/nothing-*");
  ExpectError(Try(""), {folder_ + "/nothing-*: no token file matches"});
}

TEST_F(BadInput, TokenFileThatOnlyOneRankMisses) {
  for (int bad_rank = 0; bad_rank < 4; ++bad_rank) {
    const RunOutcome outcome = RunTraining(config_, [&](int rank, RankRun& run) {
      if (rank == bad_rank) run.config.mutable_data()->set_train(0, folder_ + "/elsewhere");
    });
    ExpectError(outcome.status, {folder_ + "/elsewhere"});
  }
}

TEST_F(BadInput, TokenFileThatIsTruncated) {
  const std::string path = folder_ + "/train.bin";
  const auto bytes = std::filesystem::file_size(path);
  std::filesystem::resize_file(path, bytes - 2);
  ExpectError(Try(""), {path, std::to_string(bytes - 2)});
}

TEST_F(BadInput, TokenFileWithTheWrongMagic) {
  std::fstream(folder_ + "/train.idx", std::ios::in | std::ios::out | std::ios::binary).put('X');
  ExpectError(Try(""), {folder_ + "/train.idx", "MMIDIDX"});
}

// One sample of one replica is bad: the run trains up to the step that needs it, then stops on every rank.
TEST_F(BadInput, TokenOutsideTheVocabularyInTheMiddleOfARun) {
  std::vector<int32_t> ids = LearnableIds(100 * 16 + 1, 61, 1);
  const RunConfig two = With(config_, "parallel { tensor: 1 data: 4 }");
  ids[800] = 61;
  WriteTokens(folder_ + "/train", ids, 62);
  const RunConfig config = With(two, "training { steps: 20 checkpoint { every_steps: 1 } }");
  const RunOutcome outcome = RunTraining(config);
  EXPECT_TRUE(absl::IsOutOfRange(outcome.status));
  ExpectError(outcome.status, {folder_ + "/train.bin: token 800 has id 61; ids are in [0, 61)"});
  const auto steps = static_cast<int64_t>(Losses(config).size());
  EXPECT_GT(steps, 0);
  EXPECT_LT(steps, 13) << "the epoch has 100 samples";
  EXPECT_EQ(NewestStep(config), steps);
  // With a vocabulary that has it the model is another; the same data, mended, goes on.
  ids[800] = 3;
  WriteTokens(folder_ + "/train", ids, 61);
  EXPECT_TRUE(RunTraining(config, [](int, RankRun& run) { run.options.allow_change = true; }).status.ok());
  EXPECT_EQ(Losses(config).size(), 20u);
}

TEST_F(BadInput, CorpusOfNoTokens) {
  WriteTokens(folder_ + "/train", {}, 61);
  ExpectError(Try(""), {folder_ + "/train.idx: holds 0 tokens"});
  WriteTokens(folder_ + "/train", LearnableIds(16, 61, 1), 61);
  ExpectError(Try(""), {folder_ + "/train", "zero-length corpus: 16 tokens", "needs 17"});
}

TEST_F(BadInput, HeldOutSmallerThanASample) {
  WriteTokens(folder_ + "/held_out", LearnableIds(16, 61, 1), 61);
  ExpectError(Try("data { held_out: '" + folder_ + "/held_out' }"),
              {folder_ + "/held_out", "zero-length corpus: 16 tokens", "needs 17"});
  WriteTokens(folder_ + "/held_out", LearnableIds(16 + 1, 61, 1), 61);
  EXPECT_TRUE(Try("data { held_out: '" + folder_ + "/held_out' }").ok());
}

TEST_F(BadInput, RunFolderThatCannotBeWritten) {
  std::ofstream(folder_ + "/file") << "not a folder";
  for (const std::string& path : {folder_ + "/file", folder_ + "/file/run", std::string("/dev/null/run")}) {
    const absl::Status status = Try("folder: '" + path + "'");
    ExpectError(status, {"folder: " + path + " cannot be made: ", "not a directory"});
    EXPECT_EQ(status.message().find('\n'), std::string::npos) << status;
  }
}

TEST_F(BadInput, FilesInTheRunFolderThatCannotBeWritten) {
  std::filesystem::create_directories(folder_ + "/run/metrics.jsonl");
  ExpectError(Try(""), {folder_ + "/run/metrics.jsonl"});
  std::filesystem::remove(folder_ + "/run/metrics.jsonl");
  std::filesystem::remove_all(folder_ + "/run/checkpoints");
  std::ofstream(folder_ + "/run/checkpoints") << "not a folder";
  ExpectError(Try(""), {folder_ + "/run/checkpoints"});
}

}  // namespace
}  // namespace trefoil
