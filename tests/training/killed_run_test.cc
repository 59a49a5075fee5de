// A run that saves in the background after every step, killed at random moments. TREFOIL_KILLS says how often; unset: 25.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "checkpoint/directory.h"
#include "tests/training/trainer_testing.h"

namespace trefoil {
namespace {

// The parent runs nothing itself: a process that has computed cannot be forked.
pid_t Fork(const RunConfig& config) {
  const pid_t child = fork();
  if (child != 0) return child;
  _exit(RunTraining(config).status.ok() ? 0 : 1);
}

TEST(KilledRun, TheNewestCheckpointIsThatOfItsStepToTheBit) {
  const char* kills = std::getenv("TREFOIL_KILLS");
  const int rounds = kills == nullptr ? 25 : std::atoi(kills);
  constexpr int kSteps = 150;
  const std::string folder = NewFolder("runs");
  const RunConfig unbroken =
      TinyRun(folder, "model { layers: 2 } parallel { data: 2 } training { steps: " + std::to_string(kSteps) +
                          " checkpoint { every_steps: 1 keep_last: 0 } }");
  const RunConfig config = With(
      unbroken, "folder: '" + folder + "/killed' training { checkpoint { keep_last: 2 writing: BACKGROUND } }");
  const pid_t whole = Fork(unbroken);
  int how = 0;
  ASSERT_EQ(waitpid(whole, &how, 0), whole);
  ASSERT_TRUE(WIFEXITED(how) && WEXITSTATUS(how) == 0);

  std::mt19937 random(1);
  int64_t newest = -1, checked = 0, unfinished = 0, finished = 0;
  for (int round = 0; round < rounds; ++round) {
    SCOPED_TRACE(round);
    const pid_t child = Fork(config);
    ASSERT_GE(child, 0);
    usleep(20000 + random() % 180000);
    kill(child, SIGKILL);
    ASSERT_EQ(waitpid(child, &how, 0), child);
    ASSERT_TRUE(WIFSIGNALED(how) || WEXITSTATUS(how) == 0) << "the run ended by an error";

    std::vector<std::string> ignored;
    const auto complete = CompleteCheckpoints(FileSystem::Posix(), config.folder() + "/checkpoints", &ignored);
    ASSERT_TRUE(complete.ok()) << complete.status();
    if (!ignored.empty()) ++unfinished;
    for (const std::string& path : *complete) {
      ASSERT_TRUE(CheckpointContentOf(config, StepOf(path)) == CheckpointContentOf(unbroken, StepOf(path))) << path;
      ++checked;
    }
    ASSERT_GE(NewestStep(config), newest) << "a later kill, an older checkpoint";
    newest = NewestStep(config);
    if (newest < kSteps) continue;
    ++finished;
    newest = -1;
    std::filesystem::remove_all(config.folder());
  }
  EXPECT_GT(checked, rounds / 2);
  EXPECT_GT(unfinished, rounds / 10) << "few kills came during a save";
  std::cout << rounds << " kills, " << unfinished << " during a save; " << checked << " checkpoints compared; " << finished
            << " runs finished\n";
}

}  // namespace
}  // namespace trefoil
