#include "launcher/checkpoints/copy.h"

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>

#include "checkpoint/directory.h"
#include "checkpoint/upkeep/verify.h"
#include "launcher/config/config.h"
#include "runtime/files/folder_lock.h"
#include "tests/launcher/checkpoints/checkpoints_testing.h"

namespace trefoil {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct Seen {
  absl::Status status;
  std::string text;
};

Seen Copy(const std::vector<std::string>& from, const std::string& to, std::optional<int64_t> step = std::nullopt) {
  std::ostringstream out;
  const absl::Status status = CopyNamed(FileSystem::Posix(), from, to, step, out);
  return {status, out.str()};
}

void WriteText(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

class CopyTest : public ::testing::Test {
 protected:
  CopyTest() {
    config_ = SmallRun("checkpoint { every_steps: 2 keep_last: 0 }", 6);
    run_ = config_.folder();
    to_ = NewFolder("backups") + "/a";
    WriteText(run_ + "/tokenizer.model", "a tokenizer");
  }
  std::string Checkpoint(const std::string& run, int step) { return absl::StrCat(run, "/checkpoints/step-0000000", step); }

  RunConfig config_;
  std::string run_, to_;
};

TEST_F(CopyTest, TheNewestOrTheStepThatIsNamed) {
  const Seen newest = Copy({run_}, to_ + "/");
  ASSERT_EQ(newest.status, absl::OkStatus());
  EXPECT_THAT(newest.text, HasSubstr("copied    step 6, "));
  EXPECT_THAT(newest.text, HasSubstr(", from " + Checkpoint(run_, 6) + "\nwritten   " + Checkpoint(to_, 6) +
                                     ", each byte as it was saved\n"));
  ASSERT_EQ(Copy({run_ + "/checkpoints"}, to_, 2).status, absl::OkStatus());
  EXPECT_EQ(Copy({Checkpoint(run_, 4)}, to_).status, absl::OkStatus());
  RunConfig copy = config_;
  copy.set_folder(to_);
  for (const int step : {2, 4, 6}) EXPECT_EQ(CheckpointContentOf(copy, step), CheckpointContentOf(config_, step));
  EXPECT_EQ(*ReadFile(FileSystem::Posix(), to_ + "/tokenizer.model"), "a tokenizer");
  EXPECT_EQ(ReadConfig(FileSystem::Posix(), to_ + "/config.pbtxt", {})->folder(), to_);
  EXPECT_FALSE(std::filesystem::exists(to_ + "/lock"));

  EXPECT_EQ(Copy({run_}, to_).status,
            absl::AlreadyExistsError(Checkpoint(to_, 6) +
                                     " exists already, and nothing is overwritten; give another folder"));
  EXPECT_EQ(Copy({run_}, run_).status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(Copy({run_}, to_, 5).status,
            absl::NotFoundError(run_ + ": no complete checkpoint of step 5; there are 6, 4, 2"));
  EXPECT_THAT(Copy({run_}, Checkpoint(to_, 6)).status.message(), HasSubstr(" is a checkpoint; give the folder of a run"));
}

// The copy is a run's folder: the run goes on from it.
TEST_F(CopyTest, ARunGoesOnFromTheCopy) {
  ASSERT_EQ(Copy({run_}, to_, 4).status, absl::OkStatus());
  std::filesystem::remove(to_ + "/tokenizer.model");  // of no use to this run, which has none
  RunConfig copy = config_;
  copy.set_folder(to_);
  const RunOutcome outcome = RunTraining(copy);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_THAT(outcome.output, HasSubstr("Resuming from " + Checkpoint(to_, 4)));
  EXPECT_EQ(CheckpointContentOf(copy, 6), CheckpointContentOf(config_, 6));
}

TEST_F(CopyTest, OfFoldersThatHaveAPartEach) {
  const std::string a = NewFolder("a") + "/local", b = NewFolder("b") + "/local";
  for (const auto& [host, rank] : {std::pair(a, "rank-00000"), std::pair(b, "rank-00001")}) {
    for (const int step : {2, 4, 6}) {
      const std::string folder = absl::StrCat(host, "/step-0000000", step);
      std::filesystem::create_directories(folder);
      const std::string files = rank;
      for (const std::string& name : {std::string("manifest.json"), files + ".bin", files + ".json"}) {
        std::filesystem::copy(Checkpoint(run_, step) + "/" + name, folder);
      }
    }
  }
  std::filesystem::remove_all(b + "/step-00000006");
  // The newest is on one of them only.
  const Seen newest = Copy({a, b}, to_);
  EXPECT_TRUE(absl::IsDataLoss(newest.status));
  EXPECT_THAT(newest.status.message(), HasSubstr(a + "/step-00000006/rank-00001.bin: no such file"));
  EXPECT_THAT(newest.text, HasSubstr("note      " + b + " has none of step 6\n"));
  FlipByte(a + "/step-00000004/manifest.json", 60);
  const Seen older = Copy({a, b}, to_, 4);
  EXPECT_EQ(older.status, absl::OkStatus());
  EXPECT_THAT(older.text, HasSubstr("WARNING   " + a + "/step-00000004/manifest.json: damaged"));
  EXPECT_TRUE(VerifyCheckpoint(FileSystem::Posix(), Checkpoint(to_, 4), {}).whole());
  RunConfig copy = config_;
  copy.set_folder(to_);
  EXPECT_EQ(CheckpointContentOf(copy, 4), CheckpointContentOf(config_, 4));
  // One that was set aside as damaged serves if it is named.
  std::filesystem::rename(a + "/step-00000002", a + "/step-00000002.damaged");
  EXPECT_TRUE(absl::IsDataLoss(Copy({a, b}, to_, 2).status));
  EXPECT_EQ(Copy({a + "/step-00000002.damaged", b}, to_, 2).status, absl::OkStatus());
}

TEST_F(CopyTest, AFolderOfAnotherRunOrInUse) {
  std::filesystem::create_directories(to_);
  WriteText(to_ + "/tokenizer.model", "another");
  EXPECT_EQ(Copy({run_}, to_).status,
            absl::FailedPreconditionError(to_ + "/tokenizer.model is another tokenizer than " + run_ +
                                          "/tokenizer.model, so that folder is of another run; give another"));
  WriteText(to_ + "/tokenizer.model", "a tokenizer");
  WriteText(to_ + "/config.pbtxt", "folder: 'as it was'");
  {
    const auto lock = *FolderLock::Take(FileSystem::Posix(), to_);
    EXPECT_THAT(Copy({run_}, to_).status.message(), HasSubstr(to_ + " is in use by host "));
  }
  EXPECT_FALSE(std::filesystem::exists(to_ + "/checkpoints"));
  // A config that is there stays; one that cannot be read is no reason not to save the checkpoint.
  EXPECT_EQ(Copy({run_}, to_).status, absl::OkStatus());
  EXPECT_EQ(*ReadFile(FileSystem::Posix(), to_ + "/config.pbtxt"), "folder: 'as it was'");
  WriteText(run_ + "/config.pbtxt", "no config");
  const Seen seen = Copy({run_}, to_ + "2");
  EXPECT_EQ(seen.status, absl::OkStatus());
  EXPECT_THAT(seen.text, HasSubstr("WARNING   config and tokenizer are not copied: " + run_ + "/config.pbtxt"));
  EXPECT_FALSE(std::filesystem::exists(to_ + "2/config.pbtxt"));
}

}  // namespace
}  // namespace trefoil
