#include "launcher/checkpoints/prune.h"

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>

#include "checkpoint/directory.h"
#include "runtime/files/folder_lock.h"
#include "runtime/number_text.h"
#include "tests/launcher/checkpoints/checkpoints_testing.h"

namespace trefoil {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

struct Seen {
  absl::Status status;
  std::string text;
};

Seen Prune(const std::string& path, const PruneOptions& options) {
  std::ostringstream out;
  const absl::Status status = PruneNamed(FileSystem::Posix(), path, options, out);
  return {status, out.str()};
}

std::vector<int64_t> Steps(const std::string& run) {
  std::vector<int64_t> steps;
  const std::vector<std::string> complete = *CompleteCheckpoints(FileSystem::Posix(), run + "/checkpoints");
  for (const std::string& path : complete) steps.push_back(StepOf(path));
  return steps;
}

class PruneTest : public ::testing::Test {
 protected:
  // With all checkpoints of 16 steps, the best of which is made step 4's.
  PruneTest() {
    run_ = SmallRun("checkpoint { every_steps: 2 keep_last: 0 }", 16).folder();
    std::ofstream(run_ + "/metrics.jsonl", std::ios::app) << "{\"step\":4,\"held_out_loss\":0.25}\n";
    at_ = run_ + "/checkpoints/step-000000";
  }
  std::string run_, at_;
};

TEST_F(PruneTest, TheLastSomeInBetweenAndTheBestStay) {
  const PruneOptions options = {.keep_last = 2, .keep_every = 6};
  int64_t bytes = 0;
  std::vector<std::pair<std::string, std::string>> goes;  // and its size
  for (const char* step : {"02", "08", "10"}) {
    const int64_t size = *BytesOfFiles(FileSystem::Posix(), at_ + step);
    bytes += size;
    goes.push_back({at_ + step, BytesText(size)});
  }
  const auto rows = [&](const std::string& what) {
    std::string text;
    for (const auto& [path, size] : goes) absl::StrAppend(&text, what, path, "  ", size, "\n");
    return text;
  };
  const std::string total = BytesText(bytes);
  const std::string stay = "stay        step 4 (best held-out), 6, 12, 14, 16\n";
  const Seen dry = Prune(run_, {.keep_last = 2, .keep_every = 6, .dry_run = true});
  EXPECT_EQ(dry.status, absl::OkStatus());
  EXPECT_EQ(dry.text, rows("would go    ") + "would free  " + total + "  in 3 folders\n" + stay);
  EXPECT_THAT(Steps(run_), ElementsAre(16, 14, 12, 10, 8, 6, 4, 2));
  const Seen done = Prune(run_ + "/checkpoints", options);
  EXPECT_EQ(done.status, absl::OkStatus());
  EXPECT_EQ(done.text, rows("removed     ") + "freed       " + total + "  in 3 folders\n" + stay);
  EXPECT_THAT(Steps(run_), ElementsAre(16, 14, 12, 6, 4));
  EXPECT_EQ(Prune(run_, options).text, "freed       0 B  in 0 folders\n" + stay);
  EXPECT_FALSE(std::filesystem::exists(run_ + "/lock"));
}

TEST_F(PruneTest, WhatDiedIsRemovedAndWhatIsDamagedIsNot) {
  std::filesystem::rename(at_ + "02", at_ + "02.0123456789abcdef.partial");
  std::filesystem::rename(at_ + "06", at_ + "06.deleted");
  std::filesystem::rename(at_ + "08", at_ + "08.damaged");
  std::filesystem::copy(at_ + "10", at_ + "10.replaced");
  std::filesystem::remove(at_ + "16/rank-00001.bin");
  FlipByte(at_ + "12/manifest.json", 50);
  const Seen left = Prune(run_, {});
  EXPECT_EQ(left.status, absl::OkStatus());
  for (const std::string name : {"02.0123456789abcdef.partial", "06.deleted", "10.replaced"}) {
    EXPECT_THAT(left.text, AllOf(HasSubstr("removed     " + at_ + name + "  "), HasSubstr(", left by a save that died\n")));
  }
  const std::string missing = at_ + "16/rank-00001.bin: no such file";
  EXPECT_THAT(left.text, AllOf(HasSubstr("left        " + at_ + "08.damaged  set aside as damaged\n"),
                               HasSubstr("left        " + at_ + "16  damaged, not counted: " + missing),
                               HasSubstr("  in 3 folders\nstay        step 4 (best held-out), 10, 14\n")));
  EXPECT_THAT(Steps(run_), ElementsAre(16, 14, 12, 10, 4)) << "nothing that is complete";
  // The last one that is whole stays, not the newest by name.
  EXPECT_EQ(Prune(run_, {.keep_last = 1}).status, absl::OkStatus());
  EXPECT_THAT(Steps(run_), ElementsAre(16, 14, 12, 4));
  EXPECT_TRUE(std::filesystem::exists(at_ + "08.damaged"));
}

TEST_F(PruneTest, ARunInUseIsRefused) {
  const auto lock = *FolderLock::Take(FileSystem::Posix(), run_);
  for (const bool dry_run : {false, true}) {
    const Seen seen = Prune(run_, {.keep_last = 1, .dry_run = dry_run});
    EXPECT_TRUE(absl::IsFailedPrecondition(seen.status)) << seen.status;
    EXPECT_THAT(seen.status.message(),
                AllOf(HasSubstr(run_ + " is in use by host "), HasSubstr(absl::StrCat(", process ", getpid()))));
    EXPECT_EQ(seen.text, "");
  }
  EXPECT_EQ(Steps(run_).size(), 8u);
}

TEST_F(PruneTest, OptionsThatMakeNoSense) {
  EXPECT_EQ(Prune(run_, {.keep_every = 6}).status,
            absl::InvalidArgumentError("--keep_every: 6, but --keep_last 0 keeps all; nearest legal: --keep_last=1, or no "
                                       "--keep_every"));
  EXPECT_EQ(Prune(run_, {.keep_last = -1}).status,
            absl::InvalidArgumentError("--keep_last: -1, must be at least 0, which keeps all; nearest legal: 0"));
  EXPECT_EQ(Prune(run_, {.keep_last = 1, .keep_every = -1}).status,
            absl::InvalidArgumentError("--keep_every: -1, must be at least 0; nearest legal: 0"));
  EXPECT_THAT(Prune(at_ + "02", {.keep_last = 1}).status.message(),
              HasSubstr(at_ + "02 is one checkpoint; give its run's folder"));
  EXPECT_EQ(Steps(run_).size(), 8u);
}

}  // namespace
}  // namespace trefoil
