// Runs whose hosts keep checkpoints in folders of their own (training.checkpoint.folder, training.checkpoint.copies).
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <list>
#include <mutex>

#include "checkpoint/directory.h"
#include "tests/runtime/files/odd_file_systems.h"
#include "tests/training/run_testing.h"
#include "training/saving/newest_checkpoint.h"

namespace trefoil {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kDisk[] = "/disk", kFolder[] = "/disk/run";

using Names = std::vector<std::string>;

class HostFoldersTest : public ::testing::Test {
 protected:
  HostFoldersTest() : folder_(NewFolder(testing::UnitTest::GetInstance()->current_test_info()->name())) {}

  // A run of 4 layers and 12 steps that keeps its checkpoints on its hosts.
  RunConfig OnHosts(const std::string& more) {
    return TinyRun(folder_, absl::StrCat("training { steps: 12 checkpoint { every_steps: 4 folder: '", kFolder, "' } } ", more));
  }
  // hosts[r]: of rank r. Each has a disk of its own, unless `shared`.
  RunOutcome Train(const RunConfig& config, const Names& hosts, int stop_after = -1, bool shared = false) {
    std::list<SeparateFileSystem> disks;
    std::mutex mutex;
    return RunTraining(config, [&](int rank, RankRun& run) {
      const std::string host = shared ? "all" : hosts[static_cast<size_t>(rank)];
      const std::lock_guard lock(mutex);
      run.options.fs = &disks.emplace_back(FileSystem::Posix(), kDisk, folder_ + "/" + host);
      if (stop_after < 0 || rank != 0) return;
      run.options.stop_requested = [asked = 0, stop_after]() mutable { return asked++ == stop_after; };
    }, hosts);
  }
  void Lose(const std::string& host) { std::filesystem::remove_all(folder_ + "/" + host); }

  const std::string folder_;
};

// Acceptance in small: four hosts, one is lost for good with its folder, three go on, on another layout.
TEST_F(HostFoldersTest, ALostHostCostsNoStep) {
  RunConfig reference = TinyRun(NewFolder("reference"), "training { steps: 12 }");
  ASSERT_EQ(RunTraining(reference).status, absl::OkStatus());
  const std::vector<double> expected = Losses(reference);
  for (const std::string writing : {"BACKGROUND", "FOREGROUND"}) {
    for (const std::string lost : {"h1", "h2", "h4"}) {
      for (const char* host : {"h1", "h2", "h3", "h4", "run"}) Lose(host);
      const std::string more = absl::StrCat("training { checkpoint { writing: ", writing, " } } ");
      const RunConfig four = OnHosts(more + "parallel { tensor: 2 pipeline: 2 data: 2 }");
      const RunOutcome begun = Train(four, {"h1", "h1", "h2", "h2", "h3", "h3", "h4", "h4"}, /*stop_after=*/8);
      ASSERT_EQ(begun.status, absl::OkStatus());
      Lose(lost);
      if (lost == "h1") Lose("run");  // of rank 0's host
      Names left = {"h4", "h3", "h2", "h1"};
      std::erase(left, lost);
      const RunConfig three = OnHosts(more + "parallel { tensor: 1 pipeline: 3 }");
      const RunOutcome ended = Train(three, left);
      ASSERT_EQ(ended.status, absl::OkStatus()) << lost;
      EXPECT_THAT(ended.output, HasSubstr("Resuming from /disk/run/step-00000008 (step 8")) << lost;
      if (lost == "h1") continue;  // its metrics are gone
      const std::vector<double> losses = Losses(three);
      ASSERT_EQ(losses.size(), expected.size());
      for (size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], expected[i], 1e-5 * expected[i]) << "step " << i + 1;
    }
  }
}

TEST_F(HostFoldersTest, WithoutCopiesALostHostIsSaid) {
  const RunConfig config = OnHosts("parallel { pipeline: 2 } training { checkpoint { copies: 1 } }");
  ASSERT_EQ(Train(config, {"h1", "h2"}, 8).status, absl::OkStatus());
  Lose("h2");
  const RunOutcome again = Train(config, {"h1", "h3"});
  ASSERT_EQ(again.status, absl::OkStatus());
  EXPECT_THAT(again.output, HasSubstr("Ignoring /disk/run/step-00000008 of h1: no host of this job has the files of rank 1 of the job that saved it."));
  EXPECT_THAT(again.output, HasSubstr("Starting from random weights"));
}

TEST_F(HostFoldersTest, OldCheckpointsAreRemovedOnEveryHost) {
  const RunConfig config = OnHosts("parallel { data: 2 } training { checkpoint { keep_last: 1 } }");
  ASSERT_EQ(Train(config, {"h1", "h2"}).status, absl::OkStatus());
  for (const char* host : {"h1", "h2"}) {
    const std::vector<std::string> there =
        *CompleteCheckpoints(FileSystem::Posix(), absl::StrCat(folder_, "/", host, "/run"));
    ASSERT_EQ(there.size(), 1u) << host;
    EXPECT_EQ(StepOf(there[0]), 12);
  }
}

TEST_F(HostFoldersTest, AFolderThatHostsShareIsRefused) {
  const RunConfig config = OnHosts("parallel { data: 2 }");
  const RunOutcome run = Train(config, {"h1", "h2"}, -1, /*shared=*/true);
  EXPECT_THAT(std::string(run.status.message()), HasSubstr("training.checkpoint.folder: /disk/run is in use by host"));
  EXPECT_THAT(std::string(run.status.message()), HasSubstr("must each have one of their own"));
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/run/metrics.jsonl"));
}

TEST_F(HostFoldersTest, MoreCopiesThanHostsAreRefused) {
  const RunConfig config = OnHosts("parallel { data: 2 } training { checkpoint { copies: 3 } }");
  EXPECT_THAT(std::string(Train(config, {"h1", "h2"}).status.message()),
              HasSubstr("training.checkpoint.copies: 3, must not be above the hosts of the job, 2; nearest legal: 2"));
}

// All on one host: no copies, and nothing is asked of others.
TEST_F(HostFoldersTest, OneHostGoesOnByItself) {
  const RunConfig config = OnHosts("parallel { data: 2 }");
  ASSERT_EQ(Train(config, {"h1", "h1"}, 8).status, absl::OkStatus());
  const RunOutcome ended = Train(config, {"h1", "h1"});
  ASSERT_EQ(ended.status, absl::OkStatus());
  EXPECT_THAT(ended.output, HasSubstr("(step 8"));
  // Who names the run finds them.
  SeparateFileSystem disk(FileSystem::Posix(), kDisk, folder_ + "/h1");
  const auto place = FindTrained(disk, config.folder());
  ASSERT_EQ(place.status(), absl::OkStatus());
  EXPECT_EQ(place->checkpoints.front(), absl::StrCat(kFolder, "/step-00000012"));
  EXPECT_EQ(place->run, config.folder());
}

}  // namespace
}  // namespace trefoil
