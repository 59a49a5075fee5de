// `trefoil checkpoint`, the real program: its exit status, and one clear line for what is wrong with the command line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/launcher/checkpoints/checkpoints_testing.h"
#include "tests/launcher/program_testing.h"

namespace trefoil {
namespace {

using ::testing::HasSubstr;

Ended Checkpoint(std::vector<std::string> words) {
  words.insert(words.begin(), {Trefoil(), "checkpoint"});
  return RunProgram(words);
}

void ExpectSaid(const std::vector<std::string>& words, int status, const std::string& line) {
  const Ended ended = Checkpoint(words);
  EXPECT_EQ(ended.status, status);
  EXPECT_EQ(ended.output, "trefoil checkpoint" + line + "\n");
}

TEST(CheckpointProgram, ACommandLineThatMakesNoSense) {
  ExpectSaid({}, 2, ": say what to do: list, verify, copy, prune; `trefoil help checkpoint`");
  ExpectSaid({"lst", "runs/a"}, 2, ": 'lst' is none of list, verify, copy, prune; did you mean 'list'?");
  const std::string one = "give one path, a run's folder, its folder checkpoints, or one of those in there; found ";
  ExpectSaid({"list"}, 2, " list: " + one + "none");
  ExpectSaid({"verify", "a", "b"}, 2, " verify: " + one + "a b");
  ExpectSaid({"list", "a", "--step=3"}, 2, ": --step: is for verify and copy, not for list");
  ExpectSaid({"verify", "a", "--dry_run"}, 2, ": --dry_run: is for prune, not for verify");
  ExpectSaid({"copy", "a"}, 2, " copy: give what to copy, one path or more, and a folder to copy to; found only a");
  ExpectSaid({"prune", "a", "--keep_every=10"}, 2,
             " prune: --keep_every: 10, but --keep_last 0 keeps all; nearest legal: --keep_last=1, or no --keep_every");
  ExpectSaid({"verify", "a", "--stp=3"}, 2,
             ": no flag '--stp'; did you mean '--step'? `trefoil help checkpoint` lists them");
  ExpectSaid({"verify", "a", "--step=x"}, 2, ": --step: 'x' is not a whole number");
  const std::string folder = EmptyFolder("empty");
  ExpectSaid({"list", folder + "/none"}, 1, " list: " + folder + "/none does not exist");
  ExpectSaid({"verify", folder}, 1,
             " verify: " + folder + ": holds no checkpoint (a folder step-NNNNNNNN); give a run's folder, its folder " +
                 "checkpoints, or one of those in there");
}

TEST(CheckpointProgram, ListsAndVerifies) {
  const std::string run = SmallRun("checkpoint { every_steps: 2 keep_last: 0 }", 4).folder();
  const Ended list = Checkpoint({"list", run});
  EXPECT_EQ(list.status, 0);
  EXPECT_THAT(list.output, HasSubstr("  4  complete"));
  const Ended whole = Checkpoint({"verify", run});
  EXPECT_EQ(whole.status, 0);
  EXPECT_EQ(Count(whole.output, "  whole  "), 2) << whole.output;
  FlipByte(run + "/checkpoints/step-00000002/rank-00001.bin", 77);
  const Ended damaged = Checkpoint({"verify", run});
  EXPECT_EQ(damaged.status, 1);
  EXPECT_THAT(damaged.output, HasSubstr("trefoil checkpoint verify: 1 of 2 checkpoints are damaged: " + run +
                                        "/checkpoints/step-00000002\n"));
  EXPECT_THAT(damaged.output, HasSubstr("rank-00001.bin: damaged: tensor \""));
  EXPECT_EQ(Checkpoint({"verify", run, "--step=4"}).status, 0);
}

TEST(CheckpointProgram, CopiesAndPrunes) {
  const std::string run = SmallRun("checkpoint { every_steps: 2 keep_last: 0 }", 6).folder();
  const std::string to = EmptyFolder("backups") + "/a";
  const Ended copied = Checkpoint({"copy", run, to, "--step=2"});
  EXPECT_EQ(copied.status, 0) << copied.output;
  EXPECT_EQ(Checkpoint({"verify", to}).status, 0);
  EXPECT_EQ(Checkpoint({"copy", run, to, "--step=2"}).status, 1);
  FlipByte(run + "/checkpoints/step-00000006/rank-00001.bin", 77);
  const Ended damaged = Checkpoint({"copy", run, to});
  EXPECT_EQ(damaged.status, 1);
  EXPECT_THAT(damaged.output, HasSubstr("trefoil checkpoint copy: " + run +
                                        "/checkpoints/step-00000006/rank-00001.bin: damaged"));
  EXPECT_THAT(Checkpoint({"list", to}).output, testing::Not(HasSubstr("  6  ")));
  const Ended pruned = Checkpoint({"prune", run, "--keep_last=1"});
  EXPECT_EQ(pruned.status, 0);
  EXPECT_THAT(pruned.output, HasSubstr("removed     " + run + "/checkpoints/step-00000002  "));
}

}  // namespace
}  // namespace trefoil
