#include "launcher/commands/launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace trefoil {
namespace {

using testing::Contains;
using testing::ElementsAre;

// A folder of its own for each test, in which the ranks leave files.
class LaunchTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }

  // Writes a shell script that runs in the folder, and returns its path.
  std::string Script(const std::string& body) {
    const std::string path = folder_ + "/program";
    std::ofstream(path) << "#!/bin/sh\ncd " << folder_ << "\nrank=$OMPI_COMM_WORLD_RANK\n" << body;
    chmod(path.c_str(), 0755);
    return path;
  }

  // Starts `program` on two ranks in a process of its own.
  pid_t Start(const std::string& program) {
    const pid_t pid = fork();
    if (pid == 0) {
      LaunchPlan plan;
      plan.ranks = 2;
      plan.cores = 1;
      plan.program = {program};
      _exit(RunWithSignals(MpirunCommand(plan)));
    }
    return pid;
  }
  int Wait(pid_t pid) {
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_TRUE(WIFEXITED(status));
    return WEXITSTATUS(status);
  }

  bool Exists(const std::string& name) const { return std::filesystem::exists(folder_ + "/" + name); }
  void AwaitFile(const std::string& name) const {
    for (int i = 0; i < 1000 && !Exists(name); ++i) usleep(10'000);
    ASSERT_TRUE(Exists(name)) << name;
  }
  std::string Content(const std::string& name) const {
    std::ifstream file(folder_ + "/" + name);
    std::string word;
    file >> word;
    return word;
  }

  std::string folder_;
};

// One line of a rank is one line, without mpirun's own of the exit status.
TEST_F(LaunchTest, AnErrorIsWhatTheRankSays) {
  const std::string one = Script("[ $rank = 1 ] && exec sleep 30\necho 'bad input' >&2\nexit 3\n");
  testing::internal::CaptureStderr();
  EXPECT_EQ(RunWithSignals(MpirunCommand({.ranks = 2, .mpirun_options = {}, .program = {one}})), 3);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "bad input\n");
}

// A rank that a signal ends has said nothing.
TEST_F(LaunchTest, ASignalIsNamed) {
  const std::string killed = Script("kill -9 $$\n");
  testing::internal::CaptureStderr();
  EXPECT_EQ(RunWithSignals(MpirunCommand({.ranks = 1, .mpirun_options = {}, .program = {killed}})), 128 + 9);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::HasSubstr("a rank was ended by signal 9 (Killed)"));
}

constexpr char kSavesWhenAsked[] =
    "trap 'sleep 0.5; touch saved_$rank; exit 0' USR1\n"
    "touch ready_$rank\n"
    "while :; do sleep 0.05; done\n";

TEST_F(LaunchTest, RunsTheProgramOnEveryRankAndReturnsItsStatus) {
  EXPECT_EQ(Wait(Start(Script("echo $OMPI_COMM_WORLD_SIZE > size_$rank"))), 0);
  EXPECT_EQ(Content("size_0"), "2");
  EXPECT_EQ(Content("size_1"), "2");
  EXPECT_EQ(Wait(Start(Script("exit 7"))), 7);
  EXPECT_EQ(Wait(Start(Script("exit 75"))), 75);
  EXPECT_EQ(RunWithSignals({"/no/such/mpirun"}), 127);
}

TEST_F(LaunchTest, AnInterruptLetsTheRanksSaveAndEndWell) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const pid_t pid = Start(Script(kSavesWhenAsked));
    AwaitFile("ready_0");
    AwaitFile("ready_1");
    kill(pid, signal);
    EXPECT_EQ(Wait(pid), 0);
    EXPECT_TRUE(Exists("saved_0") && Exists("saved_1"));
    for (const char* name : {"ready_0", "ready_1", "saved_0", "saved_1"}) std::filesystem::remove(folder_ + "/" + name);
  }
}

// A terminal's Ctrl-C reaches the whole process group: mpirun must not be in it.
TEST_F(LaunchTest, TheTerminalReachesOnlyTheLauncher) {
  const pid_t pid = fork();
  if (pid == 0) {
    setpgid(0, 0);
    LaunchPlan plan;
    plan.program = {Script(kSavesWhenAsked)};
    _exit(RunWithSignals(MpirunCommand(plan)));
  }
  AwaitFile("ready_0");
  kill(-pid, SIGINT);
  EXPECT_EQ(Wait(pid), 0);
  EXPECT_TRUE(Exists("saved_0"));
}

TEST_F(LaunchTest, FurtherInterruptsKillEvenRanksThatRefuse) {
  const pid_t pid = Start(Script("trap '' USR1 TERM INT\necho $$ > pid_$rank\ntouch ready_$rank\n"
                                 "while :; do sleep 0.05; done\n"));
  AwaitFile("ready_0");
  AwaitFile("ready_1");
  for (int i = 0; i < 3; ++i) {
    kill(pid, SIGINT);
    usleep(200'000);
  }
  EXPECT_NE(Wait(pid), 0);
  for (const char* name : {"pid_0", "pid_1"}) {
    const pid_t rank = std::stoi(Content(name));
    for (int i = 0; i < 100 && kill(rank, 0) == 0; ++i) usleep(10'000);
    EXPECT_NE(kill(rank, 0), 0) << name << " " << rank << " is still there";
  }
}

TEST(MpirunCommandTest, HasOurOptionsThenTheUsersThenTheProgram) {
  LaunchPlan plan;
  plan.ranks = 4;
  plan.cores = 2;
  plan.mpirun_options = {"--hostfile", "hosts"};
  plan.program = {"trefoil", "train", "--config=x y"};
  EXPECT_THAT(MpirunCommand(plan),
              ElementsAre("mpirun", "-n", "4", "--bind-to", "none", "--oversubscribe", "--mca", "mpi_yield_when_idle",
                          "1", "-x", "OMP_NUM_THREADS", "--hostfile", "hosts", "trefoil", "train", "--config=x y"));
  plan.cores = 4;
  EXPECT_THAT(MpirunCommand(plan), testing::Not(Contains("1")));
}

// This machine's cores are not those of the hosts: neither threads nor the way of waiting follow from them.
TEST(MpirunCommandTest, LeavesToOtherHostsWhatIsTheirs) {
  LaunchPlan plan;
  plan.ranks = 0;
  plan.cores = 2;
  plan.mpirun_options = {"--hostfile", "hosts"};
  plan.other_hosts = NamesHosts(plan.mpirun_options);
  plan.passes_threads = false;
  plan.program = {"trefoil"};
  EXPECT_THAT(MpirunCommand(plan), ElementsAre("mpirun", "--bind-to", "none", "--oversubscribe", "--hostfile", "hosts", "trefoil"));
  for (const char* option : {"--hostfile", "-hostfile", "--machinefile", "--host", "-host", "-H", "--rankfile", "-rf"}) {
    EXPECT_TRUE(NamesHosts({"--mca", "btl", "tcp,self", option, "x"})) << option;
  }
  EXPECT_FALSE(NamesHosts({"--mca", "host", "--tag-output", "hostfile"}));
  EXPECT_FALSE(NamesHosts({}));
}

TEST_F(LaunchTest, APinnedRankHasCoresOfItsOwn) {
  LaunchPlan plan;
  plan.pinned = 1;
  plan.program = {Script("grep Cpus_allowed_list /proc/self/status | cut -f 2 > cores_$rank\n")};
  ASSERT_EQ(RunWithSignals(MpirunCommand(plan)), 0);
  EXPECT_THAT(Content("cores_0"), testing::MatchesRegex("[0-9]+"));
}

}  // namespace
}  // namespace trefoil
