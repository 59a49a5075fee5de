#include "runtime/files/folder_lock.h"

#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <functional>

#include "tests/runtime/files/odd_file_systems.h"

namespace trefoil {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class FolderLockTest : public ::testing::Test {
 protected:
  FolderLockTest() {
    folder_ = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
    EXPECT_TRUE(fs_.Remove(folder_).ok());
    EXPECT_TRUE(fs_.MakeFolder(folder_).ok());
    for (const char* name : {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SLURM_RESTART_COUNT"}) unsetenv(name);
  }
  // With a heartbeat that is soon looked out for.
  static constexpr FolderLockTimes kTimes = {.heartbeat_seconds = 0.02, .dead_seconds = 120};
  auto Take(const FolderLockTimes& times = kTimes) { return FolderLock::Take(fs_, folder_, times); }
  // Makes the lock's last heartbeat so many seconds old: the clock of the file system is set forward, or, if negative,
  // back.
  void MakeOlder(double seconds, const std::string& name = "/lock") {
    const double then = *fs_.ModifiedSeconds(folder_ + name) - seconds;
    timespec times[2] = {};
    times[0].tv_sec = static_cast<time_t>(then);
    times[0].tv_nsec = static_cast<long>((then - std::floor(then)) * 1e9);
    times[1] = times[0];
    ASSERT_EQ(utimensat(AT_FDCWD, (folder_ + name).c_str(), times, 0), 0);
  }
  std::string Content() { return *ReadFile(fs_, folder_ + "/lock"); }
  // A lock of another machine's process, whose last heartbeat was `silence` seconds ago.
  void WriteForeign(int silence, const std::string& more = "", const std::string& name = "/lock") {
    const std::string id = "\"id\":\"f" + std::to_string(name.size()) + "\",";
    ASSERT_TRUE(WriteFileAtomically(fs_, folder_ + name,
                                    "{" + id + more + R"("host":"n7","process":4711,"since":"yesterday","machine":"m"})")
                    .ok());
    MakeOlder(silence, name);
  }
  // Runs body in a process of its own, to its exit status.
  static int InProcess(const std::function<int()>& body) {
    const pid_t child = fork();
    if (child == 0) _exit(body());
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  void DieAsOwner() {
    EXPECT_EQ(InProcess([&] {
      auto lock = Take();
      if (!lock.ok()) return 1;
      lock->release();
      return 0;
    }), 0);
  }

  FileSystem& fs_ = FileSystem::Posix();
  std::string folder_;
};

TEST_F(FolderLockTest, IsTakenAndGivenBackAndSaysWhose) {
  setenv("SLURM_JOB_ID", "99", 1);
  auto lock = Take();
  ASSERT_TRUE(lock.ok()) << lock.status();
  EXPECT_EQ((*lock)->took_over(), "");
  EXPECT_EQ((*lock)->id().size(), 16u);
  EXPECT_EQ((*lock)->Check(), absl::OkStatus());
  EXPECT_THAT(*fs_.List(folder_), ElementsAre("lock"));
  char host[256] = {};
  gethostname(host, sizeof(host) - 1);
  EXPECT_THAT(*FolderOwner(fs_, folder_),
              AllOf(HasSubstr(absl::StrCat("host ", host, ", process ", getpid(), ", job 99, since 2")),
                    Not(HasSubstr("gone"))));
  EXPECT_TRUE(*OwnedBy(fs_, folder_, (*lock)->id()));
  lock->reset();
  EXPECT_THAT(*fs_.List(folder_), ElementsAre());
  EXPECT_TRUE(absl::IsNotFound(FolderOwner(fs_, folder_).status()));
}

TEST_F(FolderLockTest, ASecondOwnerIsRefusedInOneLine) {
  const auto first = Take();
  const std::string before = Content();
  const absl::Status second = Take().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(second));
  EXPECT_THAT(second.message(),
              AllOf(HasSubstr(folder_ + " is in use by host "), HasSubstr(absl::StrCat("process ", getpid())),
                    HasSubstr("since 2"), HasSubstr("last heartbeat 0 s ago"), HasSubstr("use another folder"),
                    Not(HasSubstr("\n"))));
  EXPECT_EQ(InProcess([&] { return absl::IsFailedPrecondition(Take().status()) ? 0 : 1; }), 0);
  EXPECT_EQ(Content(), before);
  EXPECT_THAT(*fs_.List(folder_), ElementsAre("lock"));
}

TEST_F(FolderLockTest, OfAProcessThatDiedIsTakenOver) {
  DieAsOwner();
  EXPECT_THAT(*FolderOwner(fs_, folder_), HasSubstr(" (that process is gone: the next start takes the folder over)"));
  const auto lock = Take();
  ASSERT_TRUE(lock.ok()) << lock.status();
  EXPECT_THAT((*lock)->took_over(), AllOf(HasSubstr("Took " + folder_ + " over from host "),
                                          HasSubstr(": that process is gone")));
  EXPECT_THAT(*fs_.List(folder_), ElementsAre("lock"));
}

TEST_F(FolderLockTest, OfAnotherMachineIsTakenOverAfterSilenceOnly) {
  WriteForeign(100);
  EXPECT_THAT(Take().status().message(),
              AllOf(HasSubstr("in use by host n7, process 4711, job unknown, since yesterday, last heartbeat 100 s ago"),
                    HasSubstr("if it is dead, start again in 21 s")));
  WriteForeign(121);
  const auto lock = Take();
  ASSERT_TRUE(lock.ok()) << lock.status();
  EXPECT_THAT((*lock)->took_over(), HasSubstr("no heartbeat for 121 s"));
}

TEST_F(FolderLockTest, OfAnEarlierStartOfTheSameJobIsTakenOver) {
  WriteForeign(0, R"("job":"99","restarts":1,)");
  setenv("SLURM_JOB_ID", "99", 1);
  for (const char* count : {"0", "1"}) {
    setenv("SLURM_RESTART_COUNT", count, 1);
    EXPECT_FALSE(Take().ok()) << count;
  }
  setenv("SLURM_RESTART_COUNT", "2", 1);
  const auto lock = Take();
  ASSERT_TRUE(lock.ok()) << lock.status();
  EXPECT_THAT((*lock)->took_over(), HasSubstr("an earlier start of this job"));
  setenv("SLURM_JOB_ID", "98", 1);
  WriteForeign(0, R"("job":"99","restarts":1,)");
  EXPECT_FALSE(Take().ok());
}

TEST_F(FolderLockTest, AnUnreadableOneCountsByItsHeartbeat) {
  ASSERT_TRUE(WriteFileAtomically(fs_, folder_ + "/lock", "{").ok());
  EXPECT_THAT(Take().status().message(), HasSubstr("in use by host unknown"));
  EXPECT_TRUE(Take({.heartbeat_seconds = 0.02, .dead_seconds = -1}).ok());
}

// A successor that died between its two steps, and one that died after them but before tidying up.
TEST_F(FolderLockTest, ASuccessorThatDiedIsSucceeded) {
  WriteForeign(200);
  WriteForeign(200, "", "/lock.after-f5");
  auto lock = Take();
  ASSERT_TRUE(lock.ok()) << lock.status();
  EXPECT_THAT(*fs_.List(folder_), ElementsAre("lock"));
  lock->reset();
  WriteForeign(200);
  WriteForeign(100, "", "/lock.after-f5");
  EXPECT_THAT(Take().status().message(), HasSubstr("in use by host n7"));
}

TEST_F(FolderLockTest, AnOwnerThatLostItsLockFindsOutAndLeavesTheOthersAlone) {
  auto lock = Take({.heartbeat_seconds = 0.01, .dead_seconds = 120});
  WriteForeign(50);
  const absl::Status lost = (*lock)->Check();
  EXPECT_TRUE(absl::IsFailedPrecondition(lost));
  EXPECT_THAT(lost.message(), HasSubstr("has been taken over by host n7, process 4711"));
  usleep(100000);
  EXPECT_LT(*fs_.ModifiedSeconds(folder_ + "/lock"), static_cast<double>(time(nullptr)) - 45) << "touched another's lock";
  lock->reset();
  EXPECT_THAT(Content(), HasSubstr("n7"));
}

TEST_F(FolderLockTest, BeatsWhileItIsHeld) {
  auto lock = Take({.heartbeat_seconds = 0.01, .dead_seconds = 120});
  const double first = *fs_.ModifiedSeconds(folder_ + "/lock");
  for (int i = 0; i < 500 && *fs_.ModifiedSeconds(folder_ + "/lock") == first; ++i) usleep(10000);
  EXPECT_GT(*fs_.ModifiedSeconds(folder_ + "/lock"), first);
}

TEST_F(FolderLockTest, IsMadeAgainWhereSomebodyRemovedIt) {
  auto lock = Take();
  ASSERT_TRUE(fs_.Remove(folder_ + "/lock").ok());
  EXPECT_EQ((*lock)->Check(), absl::OkStatus());
  EXPECT_TRUE(*OwnedBy(fs_, folder_, (*lock)->id()));
}

// An owner elsewhere that lives: its heartbeat comes while another looks on.
class LivingOwnerFileSystem final : public PassingFileSystem {
 public:
  using PassingFileSystem::PassingFileSystem;
  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(const std::string& path) override {
    // The first time reads who it is.
    if (path.ends_with("/lock") && opened_++ == 1) TREFOIL_RETURN_IF_ERROR(Touch(path));
    return PassingFileSystem::Open(path);
  }

 private:
  int opened_ = 0;
};

TEST_F(FolderLockTest, AClockThatIsSetForwardKillsNobody) {
  WriteForeign(3600);
  LivingOwnerFileSystem living(fs_);
  EXPECT_THAT(FolderLock::Take(living, folder_, kTimes).status().message(),
              AllOf(HasSubstr("in use by host n7"), HasSubstr("last heartbeat 0 s ago")));
  MakeOlder(3600);
  EXPECT_TRUE(Take().ok());
}

// A heartbeat of tomorrow does not keep a dead owner's lock until then, and takes nothing from one that lives.
TEST_F(FolderLockTest, AClockThatIsSetBackRefusesNobodyForEver) {
  WriteForeign(-86400);
  EXPECT_THAT(Take().status().message(),
              AllOf(HasSubstr("in use by host n7"),
                    HasSubstr("last heartbeat 86400 s from now, by a clock that was set back since"),
                    HasSubstr("if it is dead, start again in 121 s")));
  EXPECT_THAT(Take().status().message(), HasSubstr("last heartbeat 0 s ago"));
  MakeOlder(121);
  const auto lock = Take();
  ASSERT_TRUE(lock.ok()) << lock.status();
  EXPECT_THAT((*lock)->took_over(), HasSubstr("no heartbeat for 121 s"));
  MakeOlder(-86400);
  EXPECT_EQ((*lock)->Check(), absl::OkStatus());
}

// Eight processes at the same moment, many times, with the lock free or a dead owner's: one has it, always.
TEST_F(FolderLockTest, OfManyAtOnceExactlyOneHasIt) {
  constexpr int kProcesses = 8, kRounds = 60;
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE(round);
    ASSERT_TRUE(fs_.Remove(folder_).ok());
    ASSERT_TRUE(fs_.MakeFolder(folder_).ok());
    if (round % 3 == 1) DieAsOwner();
    if (round % 3 == 2) {
      WriteForeign(200);
      WriteForeign(200, "", "/lock.after-f5");
    }
    int start[2], done[2];
    ASSERT_EQ(pipe(start), 0);
    ASSERT_EQ(pipe(done), 0);
    std::vector<pid_t> children;
    for (int i = 0; i < kProcesses; ++i) {
      children.push_back(fork());
      if (children.back() != 0) continue;
      close(start[1]);
      close(done[1]);
      char byte;
      if (read(start[0], &byte, 1) != 0) _exit(9);  // all go on when the other end is closed
      auto lock = Take();
      // Held until all have tried.
      if (lock.ok() && read(done[0], &byte, 1) != 0) _exit(9);
      const bool held = lock.ok() && (*lock)->Check().ok();
      if (lock.ok()) lock->release();
      _exit(held ? 0 : absl::IsFailedPrecondition(lock.status()) ? 1 : 2);
    }
    close(start[0]);
    close(done[0]);
    close(start[1]);
    int counts[3] = {};
    for (int ended = 0; ended < kProcesses; ++ended) {
      if (ended == kProcesses - 1) close(done[1]);
      int status = 0;
      ASSERT_GT(waitpid(-1, &status, 0), 0);
      ASSERT_TRUE(WIFEXITED(status));
      ASSERT_LT(WEXITSTATUS(status), 3);
      ++counts[WEXITSTATUS(status)];
    }
    EXPECT_THAT(counts, ElementsAre(1, kProcesses - 1, 0));
  }
}

}  // namespace
}  // namespace trefoil
