// Saves while a run goes on, step by step: what the disk does meanwhile is the test's choice, not a matter of time.
#include "training/saving/saver.h"

#include <chrono>
#include <filesystem>
#include <sstream>
#include <thread>

#include "checkpoint/directory.h"
#include "tests/parallel/test_world.h"
#include "tests/runtime/files/fault_file_system.h"
#include "tests/runtime/files/odd_file_systems.h"
#include "tests/runtime/test_device.h"
#include "tests/training/trainer_testing.h"
#include "training/run_folder.h"
#include "training/step.h"

namespace trefoil {
namespace {

using Steps = std::vector<int64_t>;

// A run of real steps that saves by a Saver, as the trainer does.
struct DrivenRun {
  FileSystem* disk = &FileSystem::Posix();
  std::vector<FileSystem*> own = {};                  // of each rank, if not null, in place of `disk`
  std::function<void(int64_t step)> in_step = {};     // on rank 0, before the step; no rank is further
  std::function<void(int64_t step)> in_sums = {};     // on rank 0, when its share of the step is computed
  std::function<void(int64_t step)> after_step = {};  // on rank 0, once the step is done, before it is saved
  Steps saves = {};    // if there are any, these are saved, whatever comes due
  Steps written = {};  // steps whose forward begins once what is in flight has been written, or has failed
};
struct DrivenOutcome {
  absl::Status status;
  std::string output;
  std::vector<SaveFigures> figures;
};

absl::StatusOr<Batch> LearnableBatch(int64_t first, int64_t count) {
  const std::vector<int32_t> ids = LearnableIds(count * 16, 61, static_cast<uint64_t>(first));
  const HostTensor tokens(ids, {count, 16});
  return Batch{.samples = count, .length = 16, .first_sample = first, .inputs = tokens, .targets = tokens};
}

absl::Status RunOn(World& world, Worker& worker, const DrivenRun& run, FileSystem& fs, std::ostream& say,
                   std::vector<SaveFigures>* figures) {
  std::vector<std::string> notes;
  const RunStorage storage = {.disk = CheckpointsFolder(worker.config), .memory = std::nullopt};
  TREFOIL_ASSIGN_OR_RETURN(const auto folder,
                           RunFolder::Take(fs, worker.config.folder(), storage, *worker.all, &notes));
  Saver saver(fs, world, worker, *folder, say);
  const int64_t steps = worker.config.training().steps();
  TrainerState state;
  const auto tell = [&](const std::function<void(int64_t)>& event, int64_t step) {
    if (worker.all->rank() == 0 && event) event(step);
    worker.all->Barrier();
  };
  for (int64_t step = 1; step <= steps; ++step) {
    tell(run.in_step, step);
    while (std::ranges::count(run.written, step) > 0 && saver.is_writing()) std::this_thread::yield();
    worker.all->Barrier();
    const auto result = TrainStep(worker, BatchSource(LearnableBatch), step, 8 * step, 1e-3, 0,
                                  {.stop_requested =
                                       [&] {
                                         if (worker.all->rank() == 0 && run.in_sums) run.in_sums(step);
                                         return false;
                                       },
                                   .is_writing = [&] { return saver.is_writing(); },
                                   .before_update = [&] { saver.BeforeUpdate(); }});
    TREFOIL_RETURN_IF_ERROR(result.status());
    state.set_step(step);
    TREFOIL_RETURN_IF_ERROR(saver.AfterStep(step, result->writing));
    tell(run.after_step, step);
    const bool saves = run.saves.empty() ? saver.Due(step).has_value() : std::ranges::count(run.saves, step) > 0;
    if (saves) TREFOIL_RETURN_IF_ERROR(saver.Save(state, step == steps, Saver::Clock::now()));
    for (const SaveFigures& of_save : saver.TakeFigures()) figures->push_back(of_save);
  }
  return absl::OkStatus();
}

DrivenOutcome Drive(const RunConfig& config, const DrivenRun& run) {
  FileSystem::Posix().Remove(config.folder() + "/lock").IgnoreError();
  std::vector<absl::Status> statuses(static_cast<size_t>(RanksOf(config)));
  DrivenOutcome outcome;
  std::ostringstream say;
  RunRanksAsThreads(RanksOf(config), [&](World& threads) {
    threads.set_timeout_seconds(60);
    const TestWorld world(threads);
    const std::unique_ptr<Device> device = NewTestDevice();
    Worker worker(config, *world, *device);
    worker.store.Initialize(1, worker.groups);
    const auto rank = static_cast<size_t>(world->rank());
    FileSystem* const own = rank < run.own.size() ? run.own[rank] : nullptr;
    std::ostream silence(nullptr);
    std::vector<SaveFigures> figures;
    statuses[rank] = RunOn(*world, worker, run, own == nullptr ? *run.disk : *own, rank == 0 ? say : silence, &figures);
    if (rank == 0) outcome.figures = figures;
  }, TestThreads());
  for (const absl::Status& status : statuses) EXPECT_EQ(status, statuses[0]) << "ranks end with different statuses";
  outcome.status = statuses[0];
  outcome.output = say.str();
  return outcome;
}

class SaverTest : public testing::Test {
 protected:
  // On two data ranks; and the same in the foreground, to compare with.
  void SetUpRun(int steps, const std::string& checkpoint) {
    folder_ = NewFolder("runs");
    const std::string more = "model { layers: 1 } parallel { data: 2 } training { steps: " + std::to_string(steps);
    whole_ = TinyRun(folder_, more + " checkpoint { keep_last: 0 } }");
    config_ = TinyRun(folder_, "folder: '" + folder_ + "/other' " + more + " checkpoint { writing: BACKGROUND " +
                                   checkpoint + " } }");
  }
  std::string checkpoints() const { return config_.folder() + "/checkpoints"; }
  // Steps of which there are checkpoints, each as the foreground writes it, to the bit.
  Steps WholeCheckpoints() {
    Steps steps;
    const auto complete = CompleteCheckpoints(FileSystem::Posix(), checkpoints());
    EXPECT_TRUE(complete.ok()) << complete.status();
    for (const std::string& path : *complete) steps.insert(steps.begin(), StepOf(path));
    EXPECT_TRUE(Drive(whole_, {.saves = steps}).status.ok());
    for (const std::string& path : *complete) {
      EXPECT_TRUE(CheckpointContentOf(config_, StepOf(path)) == CheckpointContentOf(whole_, StepOf(path))) << path;
    }
    return steps;
  }
  // What people are told, without the seconds.
  static std::string Told(const DrivenOutcome& outcome) {
    std::string told;
    std::istringstream lines(outcome.output);
    for (std::string line; std::getline(lines, line);) {
      const size_t end = line.starts_with("Saved checkpoint of step ") ? line.find(" in ") : line.size();
      told += line.substr(0, end) + "\n";
    }
    return told;
  }

  // That it begins so, and has these parts in this order.
  static void ExpectTold(const DrivenOutcome& outcome, const std::string& begin, const std::vector<std::string>& parts) {
    const std::string told = Told(outcome);
    EXPECT_TRUE(told.starts_with(begin)) << told;
    size_t at = 0;
    for (const std::string& part : parts) {
      at = told.find(part, at);
      ASSERT_NE(at, std::string::npos) << part << " is missing:\n" << told;
    }
  }

  std::string folder_;
  RunConfig whole_, config_;
};

// The state changes five times while the save of step 2 is written.
TEST_F(SaverTest, OneThatComesDueMeanwhileIsPutOffSaidOnceAndMadeAfter) {
  SetUpRun(10, "every_steps: 2 keep_last: 0");
  HeldFileSystem disk(FileSystem::Posix());
  DrivenRun run = {.disk = &disk, .written = {7, 8}};
  run.in_step = [&](int64_t step) { disk.Release(step == 7 ? 7 : 0); };
  run.after_step = [&](int64_t step) { disk.Release(step == 9 ? 10 : 0); };
  const DrivenOutcome outcome = Drive(config_, run);
  EXPECT_EQ(outcome.status, absl::OkStatus());
  EXPECT_EQ(Told(outcome),
            "The checkpoint of step 4 is put off: that of step 2 is still being written.\n"
            "Saved checkpoint of step 2\nSaved checkpoint of step 7\n"
            "Saved checkpoint of step 8\nSaved checkpoint of step 10\n");
  EXPECT_EQ(WholeCheckpoints(), (Steps{2, 7, 8, 10}));
  ASSERT_EQ(outcome.figures.size(), 4u);
  EXPECT_EQ(outcome.figures[0].step, 2);
  EXPECT_GT(outcome.figures[0].write_seconds, 0);
  EXPECT_GT(outcome.figures[0].stall_seconds, 0);
  EXPECT_EQ(outcome.figures[3].write_seconds, outcome.figures[3].stall_seconds) << "the last is in the foreground";
}

TEST_F(SaverTest, OneThatIsKeptForGoodWaitsForTheOneBefore) {
  SetUpRun(8, "every_steps: 2 keep_last: 1 keep_every: 4");
  HeldFileSystem disk(FileSystem::Posix());
  DrivenRun run = {.disk = &disk, .written = {7}};
  run.after_step = [&](int64_t step) { disk.Release(step == 8 ? 8 : step - 2); };
  const DrivenOutcome outcome = Drive(config_, run);
  EXPECT_EQ(outcome.status, absl::OkStatus());
  EXPECT_EQ(Told(outcome),
            "Saved checkpoint of step 2\n"
            "The checkpoint of step 6 is put off: that of step 4 is still being written.\n"
            "Saved checkpoint of step 4\nSaved checkpoint of step 7\nSaved checkpoint of step 8\n");
  EXPECT_EQ(WholeCheckpoints(), (Steps{4, 8}));
}

// Of all ranks' disk, and of one rank's own.
TEST_F(SaverTest, AFullDiskWarnsAndIsTriedAgain) {
  for (const bool of_all : {true, false}) {
    SCOPED_TRACE(of_all);
    SetUpRun(28, "every_steps: 20 keep_last: 0");
    FaultFileSystem disk(FileSystem::Posix());
    DrivenRun run = {.own = {of_all ? &disk : nullptr, &disk}, .written = {21, 24}};
    run.after_step = [&](int64_t step) {
      if (step == 20) disk.FillAfter(100);
    };
    run.in_step = [&](int64_t step) {
      if (step == 23) disk.FillAfter(-1);
    };
    const DrivenOutcome outcome = Drive(config_, run);
    EXPECT_EQ(outcome.status, absl::OkStatus());
    ExpectTold(outcome, "WARNING: the checkpoint of step 20 was not saved: ",
               {of_all ? ".bin: no space left on device. Training goes on; there is no checkpoint yet; "
                       : "/rank-00001.bin: no space left on device. Training goes on; there is no checkpoint yet; ",
                "the next try is after step 23 (failure 1 in a row; 10 end the run).\n"
                "Saved checkpoint of step 23\nSaved checkpoint of step 28\n"});
    EXPECT_EQ(WholeCheckpoints(), (Steps{23, 28}));
    EXPECT_EQ(*FileSystem::Posix().List(checkpoints()), (std::vector<std::string>{"step-00000023", "step-00000028"}));
  }
}

TEST_F(SaverTest, FailuresInARowEndTheRun) {
  SetUpRun(9, "every_steps: 2 keep_last: 0 failed_saves: 3");
  FaultFileSystem disk(FileSystem::Posix());
  DrivenRun run = {.disk = &disk, .written = {3, 5, 7, 9}};
  run.after_step = [&](int64_t step) {
    if (step == 4) disk.FillAfter(0);
  };
  const DrivenOutcome outcome = Drive(config_, run);
  ExpectTold(outcome, "Saved checkpoint of step 2\nWARNING: the checkpoint of step 4 was not saved: ",
             {"the next try is after step 6 (failure 1 in a row; 3 end the run).\n",
              "the next try is after step 8 (failure 2 in a row; 3 end the run).\n"});
  ExpectError(outcome.status, {"the checkpoint of step 8 was not saved: ",
                               "(3 failures in a row); the newest checkpoint is of step 2"});
  EXPECT_EQ(WholeCheckpoints(), (Steps{2}));
}

// One that the next waits for and that turns out to have failed.
TEST_F(SaverTest, AfterAFailureThatIsWaitedForTheNextTryIsNow) {
  SetUpRun(6, "every_steps: 2 keep_last: 1 keep_every: 2");
  FaultFileSystem full(FileSystem::Posix());
  HeldFileSystem disk(full);
  DrivenRun run = {.disk = &disk, .written = {5}};
  run.after_step = [&](int64_t step) {
    if (step == 2) full.FillAfter(0);
    disk.Release(step - 2);
  };
  run.in_step = [&](int64_t step) {
    if (step < 5) return;
    full.FillAfter(-1);
    disk.Release(6);
  };
  const DrivenOutcome outcome = Drive(config_, run);
  EXPECT_EQ(outcome.status, absl::OkStatus());
  ExpectTold(outcome, "WARNING: the checkpoint of step 2 was not saved: ",
             {"there is no checkpoint yet; the next try is now (failure 1 in a row; 10 end the run).\n"
              "Saved checkpoint of step 4\nSaved checkpoint of step 6\n"});
  EXPECT_EQ(WholeCheckpoints(), (Steps{4, 6}));
}

// The folder of the checkpoints: before the files of one are written, and before they are committed.
TEST_F(SaverTest, AFolderOfCheckpointsThatIsRemovedIsMadeAgain) {
  for (const bool written : {false, true}) {
    SCOPED_TRACE(written);
    SetUpRun(8, "every_steps: 4 keep_last: 0");
    HeldFileSystem disk(FileSystem::Posix());
    DrivenRun run = {.disk = &disk, .written = {5, 7}};
    run.in_step = [&](int64_t step) {
      if (step == 5 && !written) std::filesystem::remove_all(checkpoints());
      if (step >= 5) disk.Release(8);
    };
    run.in_sums = [&](int64_t step) {
      if (step == 5 && written) std::filesystem::remove_all(checkpoints());
    };
    const DrivenOutcome outcome = Drive(config_, run);
    EXPECT_EQ(outcome.status, absl::OkStatus());
    ExpectTold(outcome, "WARNING: the checkpoint of step 4 was not saved: ",
               {written ? ": rank 1 has written it, but rank 0 does not see it: the hosts must share the run folder, and "
                          "nothing else may remove files there. Training goes on; "
                        : ".bin: no such file or directory. Training goes on; ",
                "there is no checkpoint yet; the next try is after step 6 (failure 1 in a row; 10 end the run).\n"
                "Saved checkpoint of step 6\nSaved checkpoint of step 8\n"});
    EXPECT_EQ(WholeCheckpoints(), (Steps{6, 8}));
  }
}

// Who removes it all must bring it back.
TEST_F(SaverTest, ARunFolderThatIsRemovedIsWaitedFor) {
  for (const bool comes_back : {true, false}) {
    SCOPED_TRACE(comes_back);
    SetUpRun(9, "every_steps: 4 keep_last: 0 failed_saves: 4");
    HeldFileSystem disk(FileSystem::Posix());
    DrivenRun run = {.disk = &disk, .written = {5, 8}};
    run.in_step = [&](int64_t step) {
      if (step == 5) std::filesystem::remove_all(config_.folder());
      if (step >= 5) disk.Release(9);
      if (step == 7 && comes_back) std::filesystem::create_directory(config_.folder());
    };
    const DrivenOutcome outcome = Drive(config_, run);
    ExpectTold(outcome, "WARNING: the checkpoint of step 4 was not saved: ",
               {"the next try is after step 6 (failure 1 in a row; 4 end the run).\n"
                "WARNING: the checkpoint of step 6 was not saved: " + config_.folder() + "/lock",
                "the next try is after step 7 (failure 2 in a row; 4 end the run).\n"});
    if (comes_back) {
      EXPECT_EQ(outcome.status, absl::OkStatus());
      EXPECT_EQ(WholeCheckpoints(), (Steps{7, 8, 9}));
    } else {
      ExpectError(outcome.status, {"the checkpoint of step 8 was not saved: " + config_.folder() + "/lock",
                                   "(4 failures in a row); there is no checkpoint yet"});
    }
  }
}

// Before a save begins, and while its files are written.
TEST_F(SaverTest, AFolderThatTurnsReadOnlyWarnsAndIsTriedAgain) {
  for (const bool begun : {false, true}) {
    SCOPED_TRACE(begun);
    SetUpRun(9, "every_steps: 4 keep_last: 0");
    ReadOnlyFileSystem mounted(FileSystem::Posix());
    HeldFileSystem disk(mounted);
    DrivenRun run = {.disk = &disk, .written = {5, 7, 8}};
    run.after_step = [&](int64_t step) {
      if (step == 4 && !begun) mounted.set_read_only(true);
    };
    run.in_step = [&](int64_t step) {
      if (step == 5 && begun) mounted.set_read_only(true);
      if (step >= 5) disk.Release(9);
      if (step == (begun ? 6 : 5)) mounted.set_read_only(false);
    };
    const DrivenOutcome outcome = Drive(config_, run);
    EXPECT_EQ(outcome.status, absl::OkStatus());
    ExpectTold(outcome, "WARNING: the checkpoint of step 4 was not saved: ",
               {": read-only file system. Training goes on; there is no checkpoint yet; the next try is after step ",
                begun ? "Saved checkpoint of step 6\nSaved checkpoint of step 8\n"
                      : "Saved checkpoint of step 5\nSaved checkpoint of step 8\n"});
    EXPECT_EQ(WholeCheckpoints(), begun ? (Steps{6, 8, 9}) : (Steps{5, 8, 9}));
  }
}

// Of files' times only those of the lock matter (tests/runtime/files/folder_lock_test.cc).
class TimelessFileSystem final : public PassingFileSystem {
 public:
  using PassingFileSystem::PassingFileSystem;
  absl::StatusOr<double> ModifiedSeconds(const std::string& path) override {
    EXPECT_EQ(path.find("/checkpoints"), std::string::npos) << path;
    return PassingFileSystem::ModifiedSeconds(path);
  }
};

TEST_F(SaverTest, NoClockSaysWhichIsTheNewest) {
  SetUpRun(8, "every_steps: 2 keep_last: 2");
  TimelessFileSystem disk(FileSystem::Posix());
  DrivenRun run = {.disk = &disk, .written = {3, 5, 7}};
  run.after_step = [&](int64_t step) {  // what is saved later is from earlier
    const auto complete = CompleteCheckpoints(FileSystem::Posix(), checkpoints());
    for (const std::string& path : *complete) {
      std::error_code removed;
      std::filesystem::last_write_time(
          path, std::filesystem::file_time_type::clock::now() + std::chrono::hours(step - 2 * StepOf(path)), removed);
    }
  };
  const DrivenOutcome outcome = Drive(config_, run);
  EXPECT_EQ(outcome.status, absl::OkStatus());
  EXPECT_EQ(WholeCheckpoints(), (Steps{6, 8}));
  EXPECT_EQ(*LatestCheckpoint(disk, checkpoints()), CheckpointPath(checkpoints(), 8));
}

// Room for two, of which one is kept: the oldest goes before the next is begun.
TEST_F(SaverTest, WhereThereIsNoRoomForOneMoreTheOldestGoesFirst) {
  SetUpRun(6, "every_steps: 1 keep_last: 1");
  ASSERT_TRUE(Drive(whole_, {.saves = {3}}).status.ok());
  const int64_t each = *CheckpointBytesOnDisk(FileSystem::Posix(), CheckpointPath(whole_.folder() + "/checkpoints", 3));
  QuotaFileSystem disk(FileSystem::Posix(), checkpoints(), 2 * each + each / 4);
  const DrivenOutcome outcome = Drive(config_, {.disk = &disk, .written = {1, 2, 3, 4, 5, 6}});
  EXPECT_EQ(outcome.status, absl::OkStatus());
  EXPECT_EQ(Told(outcome),
            "Saved checkpoint of step 1\nSaved checkpoint of step 2\nSaved checkpoint of step 3\n"
            "Saved checkpoint of step 4\nSaved checkpoint of step 5\nSaved checkpoint of step 6\n");
  EXPECT_EQ(WholeCheckpoints(), (Steps{6}));
}

}  // namespace
}  // namespace trefoil
