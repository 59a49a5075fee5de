// What the user reads when something is wrong: one clear message, once, from one rank of many, within seconds.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "runtime/host/cpu_features.h"
#include "tests/launcher/program_testing.h"

namespace trefoil {
namespace {

// How long a refusal may take: a second, and six times what it takes here at present to start four processes that say
// their version.
double Patience() {
  const Ended version = RunProgram(OnRanks(4, {"--version"}));
  EXPECT_EQ(version.status, 0) << version.output;
  return 1 + 6 * version.seconds;
}

// Runs to the end; again, up to three times, if it took longer than a refusal may: a busy machine has its moments.
Ended RunRefused(const std::vector<std::string>& argv) {
  for (int attempt = 1;; ++attempt) {
    const double patience = Patience();
    const Ended ended = RunProgram(argv);
    if (ended.seconds < patience) return ended;
    if (attempt == 3) {
      ADD_FAILURE() << "took " << ended.seconds << " s of " << patience << " allowed\n" << ended.output;
      return ended;
    }
  }
}

class BadInput : public testing::Test {
 protected:
  void SetUp() override {
    // After a rank's error mpirun sleeps a second, or two where the other ranks end a moment later. What is timed is ours.
    setenv("OMPI_MCA_odls_base_sigkill_timeout", "0", 1);
    folder_ = EmptyFolder(testing::UnitTest::GetInstance()->current_test_info()->name());
    config_ = folder_ + "/run.pbtxt";
    Write("family: LLAMA layers: 4 hidden: 32 heads: 4 vocabulary: 61 sequence_length: 16", "tensor: 2 pipeline: 2",
          "steps: 4 global_batch: 8");
  }
  void Write(const std::string& model, const std::string& parallel, const std::string& training) {
    WriteText(config_, "folder: '" + folder_ + "/run'\nmodel {\n" + model + "\n}\nparallel { " + parallel +
                           " }\ndata { train: '" + folder_ + "/train' }\ntraining { " + training + " }\n");
  }

  // Runs `trefoil train` on four ranks, and expects each part to be said once.
  void ExpectRefused(int status, const std::vector<std::string>& parts, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"train", "--config=" + config_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Ended ended = RunRefused(OnRanks(4, arguments));
    EXPECT_EQ(ended.status, status) << ended.output;
    EXPECT_EQ(Count(ended.output, "trefoil train: "), 1) << ended.output;
    for (const std::string& part : parts) EXPECT_EQ(Count(ended.output, part), 1) << part << "\n" << ended.output;
    EXPECT_EQ(Count(ended.output, "Stack trace") + Count(ended.output, "Check failed"), 0) << ended.output;
    EXPECT_FALSE(std::filesystem::exists(folder_ + "/run/checkpoints"));
  }

  std::string folder_, config_;
};

TEST_F(BadInput, AFieldThatDoesNotExist) {
  Write("family: LLAMA layers: 4\nhiden: 32 heads: 4 vocabulary: 61 sequence_length: 16", "tensor: 2 pipelin: 2",
        "steps: 4 global_batch: eight");
  ExpectRefused(2, {config_ + ":4: model has no field 'hiden'; did you mean 'hidden'?",
                    "parallel has no field 'pipelin'; did you mean 'pipeline'?", "training.global_batch: 'eight'"});
}

TEST_F(BadInput, EveryRuleThatIsBrokenAtOnce) {
  Write("family: LLAMA layers: 1 hidden: 30 heads: 3 vocabulary: 61 sequence_length: 16",
        "tensor: 2 pipeline: 2 data: 3", "steps: 4 global_batch: 8");
  ExpectRefused(2, {"rules:", "parallel: tensor 2 x pipeline 2 x data 3 = 12, but the job has 4 ranks",
                    "model.heads: 3 is not a multiple of parallel.tensor 2", "model.layers: 1, must be at least",
                    "training.global_batch: 8 is not a multiple of"});
}

TEST_F(BadInput, ASetThatMakesNoSense) {
  ExpectRefused(2, {"--set model.layer=2", "did you mean 'layers'?"}, {"--set", "model.layer=2"});
  ExpectRefused(2, {"model.layers: -2"}, {"--set", "model.layers=-2"});
}

TEST_F(BadInput, AConfigFileThatIsNotThere) {
  config_ = folder_ + "/nothing.pbtxt";
  ExpectRefused(1, {config_});
}

TEST_F(BadInput, TokenFilesThatAreNotThereOrNotOurs) {
  ExpectRefused(1, {folder_ + "/train.idx"});
  WriteText(folder_ + "/train.bin", "0123456789");
  WriteText(folder_ + "/train.idx", "these bytes are no index of tokens, and there are some more of them");
  ExpectRefused(2, {folder_ + "/train.idx"});
}

TEST_F(BadInput, AFolderThatCannotBeWritten) {
  WriteZeroTokens(folder_ + "/train");
  ExpectRefused(1, {"folder: /dev/null/run cannot be made: "}, {"--set", "folder=/dev/null/run"});
}

TEST_F(BadInput, CommandsAndFlagsThatDoNotExist) {
  const Ended command = RunProgram({Trefoil(), "trian"});
  EXPECT_EQ(command.status, 2);
  EXPECT_EQ(command.output, "trefoil: no command 'trian'; did you mean 'train'?\n");
  const Ended flag = RunProgram({Trefoil(), "train", "--confg=x"});
  EXPECT_EQ(flag.status, 2);
  EXPECT_EQ(flag.output,
            "trefoil train: no flag '--confg'; did you mean '--config'? `trefoil help train` lists them\n");
  const Ended config = RunProgram({Trefoil(), "train"});
  EXPECT_EQ(config.status, 2);
  EXPECT_EQ(Count(config.output, "--config: missing"), 1) << config.output;
}

// `trefoil launch` adds a line of its own at the start, and mpirun none at the end.
TEST_F(BadInput, OneLineUnderLaunchToo) {
  const Ended ended = RunRefused({Trefoil(), "launch", "-n", "4", "--", "train", "--config=" + folder_ + "/nothing"});
  EXPECT_EQ(ended.status, 1) << ended.output;
  EXPECT_EQ(Count(ended.output, "trefoil launch: "), 1) << ended.output;
  EXPECT_EQ(Count(ended.output, "trefoil train: "), 1) << ended.output;
  EXPECT_EQ(Count(ended.output, "\n"), 2) << ended.output;
}

TEST_F(BadInput, FlagsThatWouldDoNothing) {
  const auto refused = [](const std::vector<std::string>& arguments, const std::string& line) {
    std::vector<std::string> argv = {Trefoil()};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    const Ended ended = RunProgram(argv);
    EXPECT_NE(ended.status, 0) << ended.output;
    EXPECT_EQ(Count(ended.output, "trefoil " + arguments[0] + ": " + line), 1) << ended.output;
  };
  refused({"plan", "--config=gpt2_124m", "--top=3"}, "--top: lists layouts, so it needs --search");
  refused({"plan", "--config=gpt2_124m", "--schedules"}, "--schedules: needs times, so give --cluster");
  refused({"plan", "--config=gpt2_124m", "--cluster=dgx_a100", "--gpus=2", "--search", "--schedules"},
          "--schedules: is of one mesh");
  refused({"plan", "--config=gpt2_124m", "--train_tokens=3"}, "--train_tokens: needs times, so give --cluster");
  refused({"plan", "--config=gpt2_124m", "--cluster=dgx_a100", "--gpus=2", "--search", "--train_tokens=3"},
          "--train_tokens: is of one layout");
  refused({"generate", "--checkpoint=x", "--temperature=0", "--top_k=3"}, "--top_k: chooses among tokens, and");
  refused({"generate", "--checkpoint=x", "--temperature=0", "--top_p=1"}, "--top_p: chooses among tokens, and");
  refused({"tokenize", "--input=x", "--output=y", "--held_out=0", "--split_seed=2"},
          "--split_seed: chooses what is held out");
}

TEST_F(BadInput, RanksThatTokenizeOtherThings) {
  const Ended ended = RunProgram({"tests/mpi_run.sh", "1", Trefoil(), "tokenize", "--input=x", "--output=y", ":", "-n", "1",
                                  Trefoil(), "tokenize", "--input=x", "--output=z"});
  EXPECT_NE(ended.status, 0) << ended.output;
  EXPECT_EQ(Count(ended.output, "trefoil tokenize: command line: rank 1 on "), 1) << ended.output;
}

TEST_F(BadInput, MoreRanksThanCanBePinned) {
  const Ended ended = RunProgram({Trefoil(), "launch", "--pin", "-n", "100000", "--", "plan"});
  EXPECT_EQ(ended.status, 2);
  EXPECT_EQ(Count(ended.output, "--pin: -n 100000 x "), 1) << ended.output;
}

TEST_F(BadInput, MoreThreadsThanCoresThatARankIsBoundTo) {
  if (CoresAllowed() < 2) GTEST_SKIP() << "binding to one core of two takes two cores";
  setenv("OMP_NUM_THREADS", "1", 1);
  const Ended ended = RunProgram({Trefoil(), "launch", "--pin", "-n", "1", "--", "bench", "--config=" + config_, "--set",
                                  "runtime.threads=2", "--set", "parallel.tensor=1", "--set", "parallel.pipeline=1"});
  unsetenv("OMP_NUM_THREADS");
  EXPECT_EQ(ended.status, 1) << ended.output;
  EXPECT_EQ(Count(ended.output, "trefoil bench: runtime.threads: 2, must be at most 1, the cores that this rank is bound"), 1)
      << ended.output;
}

TEST_F(BadInput, CalibrateOverwritesNothing) {
  const std::string file = folder_ + "/cluster.pbtxt";
  const Ended unnamed = RunProgram(OnRanks(2, {"calibrate"}));
  EXPECT_EQ(unnamed.status, 2) << unnamed.output;
  EXPECT_EQ(Count(unnamed.output, "trefoil calibrate: --output: missing; name the file to write"), 1) << unnamed.output;
  const Ended nowhere = RunProgram(OnRanks(2, {"calibrate", "--output=" + folder_ + "/no/cluster.pbtxt"}));
  EXPECT_EQ(nowhere.status, 2) << nowhere.output;
  EXPECT_EQ(Count(nowhere.output, "in folder " + folder_ + "/no, which does not exist"), 1) << nowhere.output;
  WriteText(file, "mine");
  WriteText(file + ".2", "mine too");
  const Ended ended = RunRefused(OnRanks(2, {"calibrate", "--output=" + file}));
  EXPECT_EQ(ended.status, 2) << ended.output;
  const std::string wanted = file + " exists, and is not overwritten; nearest free name: " + file + ".3";
  EXPECT_EQ(Count(ended.output, "trefoil calibrate: --output: " + wanted), 1) << ended.output;
  EXPECT_EQ(ReadText(file), "mine");
}

}  // namespace
}  // namespace trefoil
