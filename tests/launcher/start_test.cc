// How a job starts: ranks that are not alike, and data that are not there, end it with one line before anything is taken.
// The ranks of a job run in folders of their own here, as hosts with files of their own do.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "runtime/host/cpu_features.h"
#include "tests/launcher/program_testing.h"

namespace trefoil {
namespace {

namespace fs = std::filesystem;

class StartTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();  // "Name", or "Name/0"
    std::replace(name.begin(), name.end(), '/', '_');
    folder_ = EmptyFolder(name);
    for (int file = 0; file < 3; ++file) {
      std::string text;
      for (int i = 0; i < 2000; ++i) {
        text += "The " + std::to_string((i * i + file) % 977) + "th word, and one more of them.\n";
      }
      WriteText(folder_ + "/text" + std::to_string(file) + ".txt", text);
    }
    const Ended ended = RunProgram({Trefoil(), "tokenize", "--input=" + folder_ + "/*.txt",
                                    "--output=" + folder_ + "/a/tokens", "--vocabulary=300", "--shard_bytes=65536"});
    ASSERT_EQ(ended.status, 0) << ended.output;
    fs::copy(folder_ + "/a", folder_ + "/b", fs::copy_options::recursive);
  }
  std::vector<std::string> Train(const std::vector<std::string>& sets = {}) const {
    std::vector<std::string> words = {Trefoil(), "train", "--config=quickstart"};
    for (const char* set : {"parallel.tensor=1", "parallel.pipeline=1", "model.layers=1", "model.hidden=48",
                            "model.sequence_length=32", "training.steps=1", "training.global_batch=12",
                            "training.optimizer.warmup_steps=0",
                            "data.train=tokens/train-*", "data.held_out=tokens/held_out-*"}) {
      words.insert(words.end(), {"--set", set});
    }
    words.insert(words.end(), {"--set", "folder=" + folder_ + "/run"});
    for (const std::string& set : sets) words.insert(words.end(), {"--set", set});
    return words;
  }
  // Rank 0 in folder a, ranks 1 and 2 in folder b with `more`.
  Ended OnTwoHosts(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> argv = {"tests/mpi_run.sh", "1", "-wdir", folder_ + "/a"};
    for (const std::string& word : Train()) argv.push_back(word);
    argv.insert(argv.end(), {":", "-n", "2", "-wdir", folder_ + "/b"});
    for (const std::string& word : Train(more)) argv.push_back(word);
    return RunProgram(argv);
  }
  void ExpectRefused(const Ended& ended, const std::string& line) const {
    EXPECT_NE(ended.status, 0) << ended.output;
    EXPECT_EQ(Count(ended.output, "trefoil train: "), 1) << ended.output;
    EXPECT_EQ(Count(ended.output, line), 1) << line << "\n" << ended.output;
    EXPECT_EQ(Count(ended.output, "Stack trace") + Count(ended.output, "Check failed"), 0) << ended.output;
    EXPECT_FALSE(fs::exists(folder_ + "/run"));
    EXPECT_LT(ended.seconds, 30);  // an idle machine needs about one
  }

  std::string folder_;
};

TEST_F(StartTest, EqualRanksTrain) {
  const Ended ended = OnTwoHosts();
  EXPECT_EQ(ended.status, 0) << ended.output;
  EXPECT_EQ(Count(ended.output, "Done: 1 steps"), 1) << ended.output;
  EXPECT_EQ(Count(ended.output, "every rank runs what rank 0 reads"), 0) << ended.output;
}

TEST_F(StartTest, ACommandLineThatDiffers) {
  ExpectRefused(OnTwoHosts({"training.seed=99"}), "command line: rank 1 on ");
}

TEST_F(StartTest, ACopyOfTheCorpusWithoutItsLastShard) {
  std::string last;
  for (const auto& entry : fs::directory_iterator(folder_ + "/b/tokens")) {
    const std::string path = entry.path().string();
    if (path.find("/train-") != std::string::npos && path > last) last = path;
  }
  ASSERT_FALSE(last.ends_with("train-00000.idx")) << "one shard only";
  last.resize(last.size() - 4);
  for (const char* extension : {".bin", ".idx"}) fs::remove(last + extension);
  ExpectRefused(OnTwoHosts(), "data.train: rank 1 on ");
}

TEST_F(StartTest, ACopyOfTheCorpusWithOneOtherToken) {
  const std::string path = folder_ + "/b/tokens/train-00000.bin";
  std::string tokens = ReadText(path);
  tokens[0] = static_cast<char>(tokens[0] + 1);
  WriteText(path, tokens);
  ExpectRefused(OnTwoHosts(), "data.train, file train-00000: rank 1 on ");
}

TEST_F(StartTest, AnotherTokenizer) {
  const Ended ended = RunProgram({Trefoil(), "tokenize", "--input=" + folder_ + "/*.txt",
                                  "--output=" + folder_ + "/other", "--vocabulary=290"});
  ASSERT_EQ(ended.status, 0) << ended.output;
  fs::copy_file(folder_ + "/other/tokenizer.model", folder_ + "/b/tokens/tokenizer.model",
                fs::copy_options::overwrite_existing);
  ExpectRefused(OnTwoHosts(), "data.tokenizer: rank 1 on ");
}

// The config is rank 0's: a host whose own copy of it is older, or missing, runs the same, and it is said.
TEST_F(StartTest, AnOlderCopyOfTheConfigFile) {
  WriteText(folder_ + "/a/run.pbtxt", "training { seed: 5 }");
  WriteText(folder_ + "/b/run.pbtxt", "training { seed: 4 }");
  for (const bool missing : {false, true}) {
    fs::remove_all(folder_ + "/run");
    if (missing) fs::remove(folder_ + "/b/run.pbtxt");
    std::vector<std::string> argv = {"tests/mpi_run.sh", "1"};
    for (const char* host : {"a", "b"}) {
      if (host == std::string("b")) argv.insert(argv.end(), {":", "-n", "1"});
      argv.insert(argv.end(), {"-wdir", folder_ + "/" + host});
      for (const std::string& word : Train()) argv.push_back(word == "--config=quickstart" ? "--config=run.pbtxt" : word);
      for (const char* set : {"model.family=LLAMA", "model.heads=6", "training.global_batch=2"}) {
        argv.insert(argv.end(), {"--set", set});
      }
    }
    const Ended ended = RunProgram(argv);
    EXPECT_EQ(ended.status, 0) << ended.output;
    EXPECT_EQ(Count(ended.output, "Starting from random weights, seed 5."), 1) << ended.output;
    EXPECT_EQ(Count(ended.output, missing ? " cannot read it; every rank runs what rank 0 reads"
                                          : " reads other values in it; every rank runs what rank 0 reads"),
              1)
        << ended.output;
  }
}

// runtime.timeout_seconds is how long a rank waits for one that does not come, here because it is stopped.
class TimeOutTest : public StartTest, public testing::WithParamInterface<const char*> {};

TEST_P(TimeOutTest, IsTheConfigs) {
  std::vector<std::string> argv = {"tests/mpi_run.sh", "2", "-wdir", folder_ + "/a"};
  for (const std::string& word : Train({"training.steps=100000", "runtime.timeout_seconds=2",
                                        std::string("runtime.sums=") + GetParam()})) {
    argv.push_back(word);
  }
  Program program(argv, folder_ + "/output");
  ASSERT_TRUE(program.Until([&] { return Count(program.Output(), "step ") > 0; })) << program.Output();
  const std::vector<pid_t> ranks = program.Children();
  ASSERT_EQ(ranks.size(), 2u) << program.Output();
  kill(ranks[1], SIGSTOP);
  const auto begin = std::chrono::steady_clock::now();
  const Ended ended = program.Wait();
  EXPECT_NE(ended.status, 0);
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(), 60);
  EXPECT_GE(Count(ended.output, "waited 2 s (runtime.timeout_seconds) in"), 1) << ended.output;
}
INSTANTIATE_TEST_SUITE_P(Sums, TimeOutTest, testing::Values("ORDERED", "FASTEST"));

// The same job over hosts whose CPUs multiply bf16 in other ways would drift apart where its ranks hold copies.
TEST_F(StartTest, CpusThatMultiplyOtherwise) {
  if (!CpuHasAvx512BFloat16()) GTEST_SKIP() << "this CPU multiplies bf16 in one way only";
  // Float32's instructions add up in one order on all of them.
  const std::vector<std::string> alike[] = {{"training.precision=FP32"},
                                            {"training.precision=BF16", "runtime.bf16_products=FLOAT32"}};
  const std::vector<std::string> differing = {"training.precision=BF16", "runtime.bf16_products=NATIVE"};
  for (const auto& sets : {differing, alike[0], alike[1]}) {
    fs::remove_all(folder_ + "/run");
    std::vector<std::string> argv = {"tests/mpi_run.sh", "1"};
    for (const char* level : {"AVX512_BF16", "AVX2"}) {
      if (level == std::string("AVX2")) argv.insert(argv.end(), {":", "-n", "2"});
      argv.insert(argv.end(), {"-wdir", folder_ + "/a", "-x", std::string("TREFOIL_CPU_LEVEL=") + level});
      for (const std::string& word : Train(sets)) argv.push_back(word);
    }
    const Ended ended = RunProgram(argv);
    if (sets == differing) {
      ExpectRefused(ended, "products of bf16: rank 1 on ");
    } else {
      EXPECT_EQ(ended.status, 0) << ended.output;
    }
  }
}

TEST_F(StartTest, NoTokenFileMatches) {
  const Ended ended = RunProgram(OnRanks(2, {"train", "--config=quickstart", "--set", "parallel.tensor=1", "--set",
                                             "parallel.pipeline=1", "--set", "data.train=typo/train-*", "--set",
                                             "folder=" + folder_ + "/run"}));
  ExpectRefused(ended, "trefoil train: typo/train-*: no token file matches");
}

TEST_F(StartTest, TokenFilesWithoutATokenizer) {
  fs::remove(folder_ + "/a/tokens/tokenizer.model");
  fs::remove(folder_ + "/b/tokens/tokenizer.model");
  ExpectRefused(OnTwoHosts(), "model.vocabulary: not set, and no tokenizer says it");
  const Ended ended = OnTwoHosts({});
  EXPECT_EQ(ended.status, 2);
}

TEST_F(StartTest, AVocabularyAboveTheTokenizersIsAnsweredWithItsCost) {
  std::vector<std::string> argv = {"tests/mpi_run.sh", "1", "-wdir", folder_ + "/a"};
  for (const std::string& word : Train({"model.vocabulary=32000"})) argv.push_back(word);
  const Ended ended = RunProgram(argv);
  EXPECT_EQ(ended.status, 0) << ended.output;
  EXPECT_EQ(Count(ended.output, "Note: model.vocabulary: 32000, but the tokenizer has 300 pieces: 3.04M of 3."), 1)
      << ended.output;
  EXPECT_EQ(Count(ended.output, "--set model.vocabulary=300 leaves them out.\n"), 1) << ended.output;
}

}  // namespace
}  // namespace trefoil
