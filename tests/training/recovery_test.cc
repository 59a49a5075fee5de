// Saves that fail, crashes, checkpoints that are damaged: what a run loses, and how it goes on.
#include <filesystem>
#include <fstream>

#include "tests/runtime/files/fault_file_system.h"
#include "tests/runtime/files/odd_file_systems.h"
#include "tests/training/trainer_testing.h"

namespace trefoil {
namespace {

class RecoveryTest : public TrainTest {};

TEST_F(RecoveryTest, AFullDiskDuringASaveKeepsTheCheckpointBefore) {
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
TEST_F(RecoveryTest, ASaveThatFailedIsTriedAgain) {
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
TEST_F(RecoveryTest, SavesThatFailInARowEndTheRun) {
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

// The machine dies at some call that changes the disk, on all ranks or on one; started again, the run ends with the
// same bits.
TEST_F(RecoveryTest, ACrashAtAnyMomentLosesAtMostTheStepsSinceTheLastSave) {
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

TEST_F(RecoveryTest, ACrashOfOneRanksFileSystemReachesAll) {
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
TEST_F(RecoveryTest, ARankThatCannotReadTheCheckpointStopsAll) {
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
TEST_F(RecoveryTest, RanksDoNotChooseTheirCheckpointByThemselves) {
  SetUpRuns();
  const RunOutcome outcome = RunTraining(unbroken_, [&](int rank, RankRun& run) {
    if (rank == 3) run.config.set_folder(folder_ + "/nothing");
  });
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_NE(outcome.output.find("This run is finished: step 6 of 6"), std::string::npos) << outcome.output;
}

// One after the other way of damage: the run goes on from the checkpoint before, says so, and keeps what is damaged.
TEST_F(RecoveryTest, ADamagedCheckpointIsPassedOverForTheOneBeforeAndKept) {
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
      {"rank-00002.json: damaged: CRC32C is ", [&] { flip(newest + "/rank-00002.json"); }},
      {"rank-00001.json: truncated: ", [&] { std::filesystem::resize_file(newest + "/rank-00001.json", 99); }},
      {"rank-00003.json: no such file", [&] { std::filesystem::remove(newest + "/rank-00003.json"); }},
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

TEST_F(RecoveryTest, WithoutAWholeCheckpointTheRunDoesNotStartAnew) {
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

}  // namespace
}  // namespace trefoil
