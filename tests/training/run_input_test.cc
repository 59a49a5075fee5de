// What a run is given that it cannot use: one error that names it.
#include <filesystem>
#include <fstream>

#include "tests/training/trainer_testing.h"

namespace trefoil {
namespace {

class BadInput : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = NewFolder("run");
    config_ = TinyRun(folder_, kFour);
  }
  absl::Status Try(const std::string& more) { return RunTraining(With(config_, more)).status; }

  std::string folder_;
  RunConfig config_;
};

TEST_F(BadInput, TokenFileThatIsMissing) {
  std::filesystem::remove(folder_ + "/train.idx");
  ExpectError(Try(""), {folder_ + "/train.idx"});
  config_.mutable_data()->set_train(0, folder_ + "/nothing-*");
  ExpectError(Try(""), {folder_ + "/nothing-*: no token file matches"});
}

TEST_F(BadInput, TokenFileThatOnlyOneRankMisses) {
  for (int bad_rank = 0; bad_rank < 4; ++bad_rank) {
    const RunOutcome outcome = RunTraining(config_, [&](int rank, RankRun& run) {
      if (rank == bad_rank) run.config.mutable_data()->set_train(0, folder_ + "/elsewhere");
    });
    ExpectError(outcome.status, {folder_ + "/elsewhere"});
  }
}

TEST_F(BadInput, TokenFileThatIsTruncated) {
  const std::string path = folder_ + "/train.bin";
  const auto bytes = std::filesystem::file_size(path);
  std::filesystem::resize_file(path, bytes - 2);
  ExpectError(Try(""), {path, std::to_string(bytes - 2)});
}

TEST_F(BadInput, TokenFileWithTheWrongMagic) {
  std::fstream(folder_ + "/train.idx", std::ios::in | std::ios::out | std::ios::binary).put('X');
  ExpectError(Try(""), {folder_ + "/train.idx", "MMIDIDX"});
}

// One sample of one replica is bad: the run trains up to the step that needs it, then stops on every rank.
TEST_F(BadInput, TokenOutsideTheVocabularyInTheMiddleOfARun) {
  std::vector<int32_t> ids = LearnableIds(100 * 16 + 1, 61, 1);
  const RunConfig two = With(config_, "parallel { tensor: 1 data: 4 }");
  ids[800] = 61;
  WriteTokens(folder_ + "/train", ids, 62);
  const RunConfig config = With(two, "training { steps: 20 checkpoint { every_steps: 1 } }");
  const RunOutcome outcome = RunTraining(config);
  EXPECT_TRUE(absl::IsOutOfRange(outcome.status));
  ExpectError(outcome.status, {folder_ + "/train.bin: token 800 has id 61; ids are in [0, 61)"});
  const auto steps = static_cast<int64_t>(Losses(config).size());
  EXPECT_GT(steps, 0);
  EXPECT_LT(steps, 13) << "the epoch has 100 samples";
  EXPECT_EQ(NewestStep(config), steps);
  // With a vocabulary that has it the model is another; the same data, mended, goes on.
  ids[800] = 3;
  WriteTokens(folder_ + "/train", ids, 61);
  EXPECT_TRUE(RunTraining(config, [](int, RankRun& run) { run.options.allow_change = true; }).status.ok());
  EXPECT_EQ(Losses(config).size(), 20u);
}

TEST_F(BadInput, CorpusOfNoTokens) {
  WriteTokens(folder_ + "/train", {}, 61);
  ExpectError(Try(""), {folder_ + "/train.idx: holds 0 tokens"});
  WriteTokens(folder_ + "/train", LearnableIds(16, 61, 1), 61);
  ExpectError(Try(""), {folder_ + "/train", "zero-length corpus: 16 tokens", "needs 17"});
}

TEST_F(BadInput, HeldOutSmallerThanASample) {
  WriteTokens(folder_ + "/held_out", LearnableIds(16, 61, 1), 61);
  ExpectError(Try("data { held_out: '" + folder_ + "/held_out' }"),
              {folder_ + "/held_out", "zero-length corpus: 16 tokens", "needs 17"});
  WriteTokens(folder_ + "/held_out", LearnableIds(16 + 1, 61, 1), 61);
  EXPECT_TRUE(Try("data { held_out: '" + folder_ + "/held_out' }").ok());
}

TEST_F(BadInput, RunFolderThatCannotBeWritten) {
  std::ofstream(folder_ + "/file") << "not a folder";
  for (const std::string& path : {folder_ + "/file", folder_ + "/file/run", std::string("/dev/null/run")}) {
    const absl::Status status = Try("folder: '" + path + "'");
    ExpectError(status, {"folder: " + path + " cannot be made: ", "not a directory"});
    EXPECT_EQ(status.message().find('\n'), std::string::npos) << status;
  }
}

TEST_F(BadInput, FilesInTheRunFolderThatCannotBeWritten) {
  std::filesystem::create_directories(folder_ + "/run/metrics.jsonl");
  ExpectError(Try(""), {folder_ + "/run/metrics.jsonl"});
  std::filesystem::remove(folder_ + "/run/metrics.jsonl");
  std::filesystem::remove_all(folder_ + "/run/checkpoints");
  std::ofstream(folder_ + "/run/checkpoints") << "not a folder";
  ExpectError(Try(""), {folder_ + "/run/checkpoints"});
}

}  // namespace
}  // namespace trefoil
