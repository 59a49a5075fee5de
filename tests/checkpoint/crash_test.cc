// A save that dies at any moment leaves a checkpoint that loads, and the next save succeeds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>

#include "checkpoint/directory.h"
#include "checkpoint/reader.h"
#include "tests/checkpoint/example_state.h"
#include "tests/runtime/files/fault_file_system.h"

namespace trefoil {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

constexpr size_t kRanks = 3;

std::vector<GlobalTensor> SmallState(uint64_t seed) {
  std::vector<GlobalTensor> state = RandomState(seed);
  state.resize(4);
  return state;
}

struct Case {
  int crashing_rank;  // -1: all ranks on one machine that dies
  int64_t step;       // of the save that dies; 1 is also the step of the earlier checkpoint
  FaultFileSystem::Crash crash;
};

class CrashTest : public ::testing::TestWithParam<Case> {};

TEST_P(CrashTest, AtEveryCallTheEarlierOrTheNewCheckpointLoads) {
  const Case& c = GetParam();
  FileSystem& real = FileSystem::Posix();
  const std::string folder = testing::TempDir() + "/crash";
  const std::vector<FileSystem*> all_real(kRanks, &real);
  const std::vector<GlobalTensor> earlier = SmallState(1), dying = SmallState(2), next = SmallState(3);
  int64_t earlier_kept = 0, new_found = 0;
  for (int64_t k = 0;; ++k) {
    SCOPED_TRACE(k);
    ASSERT_TRUE(real.Remove(folder).ok());
    ASSERT_THAT(Save(all_real, folder, earlier, 1, {.cut_seed = 1, .keep_last = 1}), Each(absl::OkStatus()));

    FaultFileSystem fault(real);
    fault.CrashAt(k, c.crash);
    std::vector<FileSystem*> file_systems = all_real;
    for (size_t r = 0; r < kRanks; ++r) {
      if (c.crashing_rank < 0 || c.crashing_rank == static_cast<int>(r)) file_systems[r] = &fault;
    }
    const auto statuses = Save(file_systems, folder, dying, c.step, {.cut_seed = 2, .keep_last = 1});
    EXPECT_THAT(statuses, Each(statuses[0]));

    const auto latest = LatestCheckpoint(real, folder);
    ASSERT_TRUE(latest.ok()) << latest.status();
    const bool is_earlier = Load(*latest, earlier, 2, 5) == "";
    if (is_earlier) {
      ++earlier_kept;
    } else {
      ++new_found;
      EXPECT_EQ(Load(*latest, dying, 2, 5), "");
      EXPECT_EQ(CheckpointReader::Open(real, *latest)->step(), c.step);
    }
    EXPECT_FALSE(is_earlier && statuses[0].ok());
    // Nothing that was half removed may look complete.
    const std::vector<std::string> names = *real.List(folder);
    for (const std::string& name : names) {
      if (name.find('.') != std::string::npos) continue;
      const std::string path = folder + "/" + name;
      EXPECT_TRUE(Load(path, earlier, 1, 5) == "" || Load(path, dying, 1, 5) == "") << name;
    }

    // A save that tidies up and then fails loses nothing either.
    FaultFileSystem full(real);
    full.FillAfter(0);
    EXPECT_THAT(Save({&full, &real, &real}, folder, next, 3, {.cut_seed = 3, .keep_last = 1}),
                Each(::testing::Ne(absl::OkStatus())));
    const auto still = LatestCheckpoint(real, folder);
    ASSERT_TRUE(still.ok()) << still.status();
    EXPECT_EQ(Load(*still, is_earlier ? earlier : dying, 2, 5), "");

    EXPECT_THAT(Save(all_real, folder, next, 3, {.cut_seed = 3, .keep_last = 1}), Each(absl::OkStatus()));
    EXPECT_EQ(*LatestCheckpoint(real, folder), CheckpointPath(folder, 3));
    EXPECT_EQ(Load(CheckpointPath(folder, 3), next, 2, 5), "");
    EXPECT_THAT(*real.List(folder), ElementsAre("step-00000003"));
    if (!fault.crashed()) {
      EXPECT_THAT(statuses, Each(absl::OkStatus()));
      break;
    }
  }
  EXPECT_GT(earlier_kept, 3);
  EXPECT_GT(new_found, 0);
}

constexpr auto kKill = FaultFileSystem::Crash::kKill, kPowerCut = FaultFileSystem::Crash::kPowerCut;
INSTANTIATE_TEST_SUITE_P(All, CrashTest,
                         ::testing::Values(Case{0, 2, kKill}, Case{1, 2, kKill}, Case{2, 2, kKill}, Case{-1, 2, kKill},
                                           Case{-1, 2, kPowerCut}, Case{0, 1, kKill}, Case{-1, 1, kKill},
                                           Case{-1, 1, kPowerCut}),
                         [](const ::testing::TestParamInfo<Case>& info) {
                           const Case& c = info.param;
                           return (c.crashing_rank < 0 ? "Machine" : "Rank" + std::to_string(c.crashing_rank)) +
                                  (c.step == 1 ? "SameStep" : "NextStep") + (c.crash == kKill ? "Kill" : "PowerCut");
                         });

// The state is a function of the step, so that the parent knows what it must find.
[[noreturn]] void SaveForEver(const std::string& folder, int64_t first_step) {
  FileSystem& fs = FileSystem::Posix();
  for (int64_t step = first_step;; ++step) {
    const auto state = RandomState(static_cast<uint64_t>(step), /*scale=*/500);
    for (const auto& status : Save({&fs, &fs}, folder, state, step, {.cut_seed = 1, .keep_last = 2})) {
      if (!status.ok()) _exit(1);
    }
  }
}

TEST(KillTest, AProcessKilledAtRandomMomentsLeavesACheckpointThatLoads) {
  FileSystem& fs = FileSystem::Posix();
  const std::string folder = testing::TempDir() + "/killed";
  ASSERT_TRUE(fs.Remove(folder).ok());
  std::mt19937 random(1);
  int64_t newest = 0;
  int left_unfinished = 0;
  for (int round = 0; round < 25; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) SaveForEver(folder, newest + 1);
    usleep(10000 + random() % 100000);
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int how = 0;
    ASSERT_EQ(waitpid(child, &how, 0), child);
    ASSERT_TRUE(WIFSIGNALED(how)) << "the child ended by itself: " << WEXITSTATUS(how);

    std::vector<std::string> ignored;
    const auto latest = LatestCheckpoint(fs, folder, &ignored);
    if (!ignored.empty()) ++left_unfinished;
    if (newest == 0 && !latest.ok()) continue;  // killed before the first was complete
    ASSERT_TRUE(latest.ok()) << latest.status();
    const auto reader = CheckpointReader::Open(fs, *latest);
    ASSERT_TRUE(reader.ok()) << reader.status();
    EXPECT_GE(reader->step(), newest);
    newest = reader->step();
    EXPECT_EQ(Load(*latest, RandomState(static_cast<uint64_t>(newest), 500), 3, 9), "");
  }
  EXPECT_GT(newest, 3);
  EXPECT_GT(left_unfinished, 0) << "no kill came during a save";
}

}  // namespace
}  // namespace trefoil
