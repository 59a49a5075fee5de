// training.checkpoint.every_steps_in_memory, training.checkpoint.memory_folder: what a run that dies goes on from.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <list>
#include <mutex>

#include "checkpoint/directory.h"
#include "tests/runtime/files/odd_file_systems.h"
#include "tests/training/run_testing.h"

namespace trefoil {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

namespace files = std::filesystem;
using Names = std::vector<std::string>;

constexpr int kDied = 9;
const Names kFour = {"h1", "h1", "h2", "h2", "h3", "h3", "h4", "h4"};

// A file system in memory that says how much is free in it.
class FullFileSystem final : public PassingFileSystem {
 public:
  FullFileSystem(FileSystem& base, int64_t free) : PassingFileSystem(base), free_(free) {}
  absl::StatusOr<int64_t> FreeBytes(const std::string& path) override {
    return path.starts_with("/memory") ? free_ : int64_t{1} << 40;
  }

 private:
  const int64_t free_;
};

class MemorySnapshotsTest : public ::testing::Test {
 protected:
  MemorySnapshotsTest() : folder_(NewFolder(testing::UnitTest::GetInstance()->current_test_info()->name())) {}

  // 4 layers; snapshots after every second step, and checkpoints after every 100th, of which there is none.
  RunConfig Config(int steps, const std::string& more) {
    return TinyRun(folder_, absl::StrCat("training { steps: ", steps, " checkpoint { writing: BACKGROUND every_steps: 100 "
                                         "every_steps_in_memory: 2 memory_folder: '/memory' } } ", more));
  }
  RunConfig FourHosts(int steps) { return Config(steps, "parallel { tensor: 2 pipeline: 2 data: 2 }"); }

  // Where a host's snapshots are, on this machine.
  std::string SnapshotsOf(const std::string& host) {
    const std::string memory = folder_ + "/memory-of-" + host;
    if (!files::exists(memory)) return memory;
    for (const auto& entry : files::directory_iterator(memory)) return entry.path();
    return folder_ + "/none";
  }
  void Lose(const std::string& host) { files::remove_all(folder_ + "/memory-of-" + host); }
  bool HasSnapshot(const std::string& host, int64_t step) {
    const auto there = CompleteCheckpoints(FileSystem::Posix(), SnapshotsOf(host));
    return there.ok() && !there->empty() && StepOf(there->front()) >= step;
  }

  // In a process of its own, which the run takes with it where it dies: `dies` is asked before each step, by rank 0. Returns
  // the exit status, and what rank 0 said.
  int Train(const RunConfig& config, const Names& hosts, const std::function<bool()>& dies, std::string* output,
            int64_t free = int64_t{1} << 40) {
    const std::string said = folder_ + "/said";
    for (const std::string& host : hosts) files::create_directories(folder_ + "/memory-of-" + host);
    const pid_t child = fork();
    if (child == 0) {
      std::list<SeparateFileSystem> disks;
      std::list<FullFileSystem> full;
      std::mutex mutex;
      const RunOutcome run = RunTraining(config, [&](int rank, RankRun& run) {
        const std::lock_guard lock(mutex);
        SeparateFileSystem& of_host = disks.emplace_back(FileSystem::Posix(), "/memory",
                                                         folder_ + "/memory-of-" + hosts[static_cast<size_t>(rank)]);
        run.options.fs = &full.emplace_back(of_host, free);
        if (rank != 0 || !dies) return;
        run.options.stop_requested = [dies] {
          if (dies()) _exit(kDied);
          return false;
        };
      }, hosts);
      std::ofstream(said) << run.output << run.status.message();
      _exit(run.status.ok() && !testing::Test::HasFailure() ? 0 : 1);
    }
    int how = 0;
    EXPECT_EQ(waitpid(child, &how, 0), child);
    output->clear();
    if (std::ifstream file(said); file.good()) output->assign(std::istreambuf_iterator<char>(file), {});
    return WIFEXITED(how) ? WEXITSTATUS(how) : -1;
  }
  // Dies as soon as all four hosts have a snapshot of this step or a later one.
  void Die(const RunConfig& config, int64_t step) {
    std::string output;
    ASSERT_EQ(Train(config, kFour, [&] {
                return HasSnapshot("h1", step) && HasSnapshot("h2", step) && HasSnapshot("h3", step) && HasSnapshot("h4", step);
              }, &output), kDied) << output;
  }

  const std::string folder_;
};

// What a start says that it resumes from, "(step 12,"; -1 if it does not.
int64_t ResumedStep(const std::string& output) {
  const size_t at = output.find("(step ", output.find("Resuming from /memory/trefoil-run-"));
  return at == std::string::npos ? -1 : std::stoll(output.substr(at + 6));
}

TEST_F(MemorySnapshotsTest, ADeadRunGoesOnFromTheHostsMemory) {
  std::string output;
  const RunConfig config = FourHosts(80);
  Die(config, 4);
  ASSERT_EQ(Train(config, kFour, nullptr, &output), 0) << output;
  EXPECT_GE(ResumedStep(output), 4) << output;
  // As a run that never died, to the bit.
  const std::vector<double> losses = Losses(config);
  RunConfig unbroken = config;
  unbroken.set_folder(folder_ + "/unbroken");
  std::string whole;
  ASSERT_EQ(Train(unbroken, kFour, nullptr, &whole), 0) << whole;
  EXPECT_EQ(losses, Losses(unbroken));
  // A run that has ended leaves nothing in memory.
  for (const char* host : {"h1", "h4"}) EXPECT_TRUE(files::is_empty(folder_ + "/memory-of-" + host));
  EXPECT_THAT(output, Not(HasSubstr("WARNING")));
}

// A checkpoint on disk is older than the snapshot; what is older is not taken.
TEST_F(MemorySnapshotsTest, TheNewestOfDiskAndMemoryIsTaken) {
  std::string output;
  const RunConfig config = With(FourHosts(400), "training { checkpoint { every_steps: 5 } }");
  ASSERT_EQ(Train(config, kFour, [&] {
              const int64_t on_disk = NewestStep(config);
              return on_disk >= 5 && HasSnapshot("h1", on_disk + 1) && HasSnapshot("h2", on_disk + 1) &&
                     HasSnapshot("h3", on_disk + 1) && HasSnapshot("h4", on_disk + 1);
            }, &output), kDied) << output;
  const int64_t on_disk = NewestStep(config);
  ASSERT_EQ(Train(With(config, absl::StrCat("training { steps: ", on_disk + 20, " }")), kFour, nullptr, &output), 0) << output;
  EXPECT_GT(ResumedStep(output), on_disk) << output;
}

// The host of rank 0 is lost, with its memory; the others go on, on another layout.
TEST_F(MemorySnapshotsTest, OneHostMayBeLost) {
  std::string output;
  Die(FourHosts(400), 4);
  Lose("h1");
  ASSERT_EQ(Train(Config(30, "parallel { pipeline: 3 }"), {"h4", "h2", "h3"}, nullptr, &output), 0) << output;
  EXPECT_GE(ResumedStep(output), 4) << output;
}

// Two neighbours are one too many: from the disk, which has nothing yet.
TEST_F(MemorySnapshotsTest, WhatIsNotWholeIsNotUsed) {
  std::string output;
  Die(FourHosts(400), 4);
  Lose("h2");
  Lose("h3");
  ASSERT_EQ(Train(Config(10, "parallel { data: 2 }"), {"h1", "h4"}, nullptr, &output), 0) << output;
  EXPECT_THAT(output, AllOf(HasSubstr("Ignoring /memory/trefoil-run-"), HasSubstr("the files of ranks 2-3 of the job")));
  EXPECT_THAT(output, HasSubstr("Starting from random weights"));
}

// Who removes a run's folder begins anew.
TEST_F(MemorySnapshotsTest, SnapshotsOfARunThatWasRemovedAreDropped) {
  std::string output;
  const RunConfig config = FourHosts(400);
  Die(config, 4);
  files::remove_all(config.folder());
  ASSERT_EQ(Train(config, kFour, [] { return true; }, &output), kDied);
  for (const char* host : {"h1", "h2", "h3", "h4"}) {
    EXPECT_THAT(*CompleteCheckpoints(FileSystem::Posix(), SnapshotsOf(host)), IsEmpty()) << host;
  }
}

TEST_F(MemorySnapshotsTest, AMemoryFolderThatIsNotThereIsNotMade) {
  std::string output;
  const RunConfig config = Config(10, "parallel { data: 2 } training { checkpoint { memory_folder: '/memory/none' } }");
  ASSERT_EQ(Train(config, {"h1", "h2"}, nullptr, &output), 1);
  EXPECT_THAT(output, HasSubstr("training.checkpoint.memory_folder: /memory/none does not exist on host h1; must be a file "
                                "system in memory"));
  EXPECT_TRUE(files::is_empty(folder_ + "/memory-of-h1"));
  EXPECT_FALSE(files::exists(config.folder()));
}

TEST_F(MemorySnapshotsTest, WithoutRoomItIsRefused) {
  std::string output;
  ASSERT_EQ(Train(FourHosts(10), kFour, nullptr, &output, /*free=*/30000), 1);
  EXPECT_THAT(output, AllOf(HasSubstr("training.checkpoint.every_steps_in_memory: 2, but /memory has"),
                            HasSubstr("two snapshots of this model take"), HasSubstr("nearest legal: 0")));
}

}  // namespace
}  // namespace trefoil
