// The real program on four ranks (tensor 2 x pipeline 2): trains, stops, is killed, resumes, writes text.
#include <absl/strings/str_join.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <regex>
#include <sstream>

#include "runtime/host/cpu_features.h"
#include "tests/launcher/program_testing.h"

namespace trefoil {
namespace {

using testing::TempDir;

class EndToEnd : public testing::Test {
 protected:
  // A corpus of its own for all tests.
  static void SetUpTestSuite() {
    corpus_ = EmptyFolder("corpus");
    const char* words[] = {"Elizabeth", "walked", "to", "the", "ball", "and", "Mr.", "Darcy", "was", "proud"};
    std::ostringstream text;
    for (unsigned i = 0, word = 1; i < 6000; ++i) {
      word = word * 1103515245 + 12345;
      text << words[word >> 16 & 7] << (i % 50 == 0 ? "\n\n" : " ");
    }
    WriteText(corpus_ + "/text.txt", text.str());
    const Ended ended = RunProgram({Trefoil(), "tokenize", "--input=" + corpus_ + "/text.txt",
                                    "--output=" + corpus_ + "/tokens", "--vocabulary=300", "--held_out=0.1"});
    ASSERT_EQ(ended.status, 0) << ended.output;
  }

  // A config file for a run folder of this name; not made yet.
  std::string Config(const std::string& name, const std::string& training) {
    folder_ = EmptyFolder(name) + "/run";
    const std::string path = TempDir() + "/" + name + ".pbtxt";
    WriteText(
        path,
        "folder: '" + folder_ +
            "'\n"
            "model { family: LLAMA layers: 4 hidden: 32 heads: 4 kv_heads: 2 feed_forward: 64 sequence_length: 16 }\n"
            "parallel { tensor: 2 pipeline: 2 }\n"
            "data { train: '" +
            corpus_ + "/tokens/train-*' held_out: '" + corpus_ +
            "/tokens/held_out-*' }\n"
            "training { global_batch: 8 micro_batch: 2 evaluate_samples: 8 precision: FP32 "
            "optimizer { learning_rate: 3e-3 schedule: CONSTANT } " +
            training + " }\n");
    return path;
  }
  static std::vector<std::string> Train(const std::string& config, const std::vector<std::string>& sets = {}) {
    std::vector<std::string> arguments = {"train", "--config=" + config};
    for (const std::string& set : sets) arguments.insert(arguments.end(), {"--set", set});
    return OnRanks(4, arguments);
  }

  // Of metrics.jsonl, without what the clock says.
  static std::vector<std::string> Lines(const std::string& folder) {
    std::vector<std::string> lines;
    std::istringstream file(ReadText(folder + "/metrics.jsonl"));
    for (std::string line; std::getline(file, line);) {
      const size_t time = line.find("\"time\""), tokens = line.find("\"tokens\""), clock = line.find(",\"seconds\"");
      lines.push_back(line.substr(0, time) + line.substr(tokens, clock - tokens));
    }
    return lines;
  }
  static std::vector<double> Losses(const std::string& folder) {
    std::vector<double> losses;
    const std::string text = ReadText(folder + "/metrics.jsonl"), key = "\"loss\":";
    for (size_t at = 0; (at = text.find(key, at)) != std::string::npos;) {
      losses.push_back(std::stod(text.substr(at += key.size())));
    }
    return losses;
  }
  size_t StepsDone() const { return Lines(folder_).size(); }

  static std::string corpus_;
  std::string folder_;
};

std::string EndToEnd::corpus_;

// Under real MPI: what tensors take to the byte on every rank, and the whole process within 5%; in both precisions, by the
// instructions of every kind of CPU that this one can stand for.
TEST_F(EndToEnd, MemoryIsAsPlanned) {
  const std::string config = Config("planned", "steps: 3");
  const std::vector<std::string> wide = {"model.hidden=256", "model.feed_forward=1024", "model.sequence_length=128"};
  const std::vector<std::string> pipeline = {"parallel.tensor=1", "parallel.pipeline=4", "training.micro_batch=1"};
  const std::vector<std::vector<std::string>> others = {
      {},
      {"parallel.tensor=1", "parallel.pipeline=2", "parallel.schedule=INTERLEAVED", "training.micro_batch=1"},
      {"parallel.tensor=2", "parallel.pipeline=1", "parallel.sequence_parallel=true", "parallel.recompute=FULL"},
      {"parallel.tensor=1", "parallel.pipeline=1", "parallel.recompute=SELECTIVE", "model.family=GPT"}};
  int runs = 0;
  const auto check = [&](CpuLevel level, const std::vector<std::string>& layout, const std::string& precision,
                         const std::string& products = "") {
    SCOPED_TRACE(std::string(Name(level)) + ", " + precision + ", " + products + ", " + absl::StrJoin(layout, " "));
    setenv("TREFOIL_CPU_LEVEL", Name(level), 1);
    std::vector<std::string> sets = wide;
    sets.insert(sets.end(), layout.begin(), layout.end());
    sets.push_back("training.precision=" + precision);
    if (!products.empty()) sets.push_back("runtime.bf16_products=" + products);
    sets.push_back("folder=" + folder_ + std::to_string(++runs));
    const Ended ended = RunProgram(Train(config, sets));
    unsetenv("TREFOIL_CPU_LEVEL");
    ASSERT_EQ(ended.status, 0) << ended.output;
    EXPECT_EQ(Count(ended.output, "exact on 4 of 4"), 1) << ended.output;
    std::smatch found;
    ASSERT_TRUE(std::regex_search(ended.output, found,
                                  std::regex("process: planned ([0-9.]+) MiB .*, real ([0-9.]+) MiB")))
        << ended.output;
    EXPECT_NEAR(std::stod(found[1]) / std::stod(found[2]), 1, 0.05) << ended.output;
  };
  const CpuLevel all[] = {CpuLevel::kAvx2, CpuLevel::kAvx512, CpuLevel::kAvx512Bf16, CpuLevel::kAmx};
  // Whichever products this machine takes by itself.
  if (CpuLevelOfHardware() >= CpuLevel::kAvx512Bf16) {
    check(CpuLevelOfHardware(), pipeline, "BF16", "FLOAT32");
    check(CpuLevel::kAvx512Bf16, pipeline, "BF16", "NATIVE");
  }
  for (const char* precision : {"FP32", "BF16"}) {
    for (const CpuLevel level : all) {
      if (level <= CpuLevelOfHardware()) check(level, pipeline, precision);
    }
    for (const auto& layout : others) check(CpuLevelOfHardware(), layout, precision);
  }
}

// The libraries' sums train as those of the one order do but for rounding, take what is planned, and a run may change
// between them, which is said.
TEST_F(EndToEnd, TheFastestSums) {
  const std::string config = Config("fastest", "steps: 6");
  for (const std::vector<std::string>& layout :
       {std::vector<std::string>{"parallel.pipeline=1", "parallel.data=2"},
        {"parallel.pipeline=1", "parallel.data=2", "parallel.sequence_parallel=true", "parallel.zero=NONE"},
        {"model.tied=true", "training.precision=BF16"}}) {  // of rows split over two, and of the tied matrix
    SCOPED_TRACE(absl::StrJoin(layout, " "));
    std::vector<std::vector<double>> losses;
    for (const char* sums : {"ORDERED", "FASTEST"}) {
      std::vector<std::string> sets = layout;
      std::filesystem::remove_all(folder_);
      sets.push_back(std::string("runtime.sums=") + sums);
      const Ended ended = RunProgram(Train(config, sets));
      ASSERT_EQ(ended.status, 0) << ended.output;
      EXPECT_EQ(Count(ended.output, "exact on 4 of 4"), 1) << ended.output;
      EXPECT_EQ(Count(ended.output, "\nsums      FASTEST: "), sums == std::string("FASTEST")) << ended.output;
      losses.push_back(Losses(folder_));
    }
    ASSERT_EQ(losses[0].size(), 6u);
    ASSERT_EQ(losses[1].size(), 6u);
    const double tolerance = layout.back() == "training.precision=BF16" ? 1e-2 : 1e-5;
    for (size_t i = 0; i < losses[0].size(); ++i) EXPECT_NEAR(losses[1][i], losses[0][i], tolerance) << "step " << i;
  }
  const Ended longer = RunProgram(Train(config, {"model.tied=true", "training.precision=BF16", "training.steps=7"}));
  EXPECT_EQ(longer.status, 0) << longer.output;
  EXPECT_EQ(Count(longer.output, "Note: runtime.sums was FASTEST, is ORDERED: sums over ranks are added up in"), 1)
      << longer.output;
}

TEST_F(EndToEnd, TrainsSaysWhenItIsFinishedAndGenerates) {
  const std::string config = Config("finished", "steps: 30 checkpoint { every_steps: 20 }");
  const Ended first = RunProgram(Train(config));
  ASSERT_EQ(first.status, 0) << first.output;
  for (const char* part :
       {"mesh      tensor 2 x pipeline 2 x data 1 = 4 ranks", "stage 1", "Starting from random weights",
        "step  1/30  loss 5.", "tokens/s", "MFU", "held-out loss", "unigram entropy", "Done: 30 steps"}) {
    EXPECT_EQ(Count(first.output, part) > 0, true) << part << " is missing:\n" << first.output;
  }
  EXPECT_EQ(Count(first.output, "Starting from random weights"), 1) << "every rank speaks";
  EXPECT_EQ(StepsDone(), 30u);

  const Ended second = RunProgram(Train(config));
  EXPECT_EQ(second.status, 0);
  EXPECT_EQ(Count(second.output, "This run is finished: step 30 of 30"), 1) << second.output;
  EXPECT_EQ(StepsDone(), 30u);

  const auto generate = [&](const std::string& seed, const std::string& more = "--tokens=20") {
    return WithoutSpeeds(
        RunProgram({Trefoil(), "generate", "--checkpoint=" + folder_, "--prompt=Mr. Darcy", "--seed=" + seed, more}));
  };
  const Ended text = generate("5");
  ASSERT_EQ(text.status, 0) << text.output;
  EXPECT_EQ(text.output.find("Mr. Darcy"), 0u) << text.output;
  EXPECT_GT(text.output.size(), 20u);
  EXPECT_EQ(generate("5").output, text.output);
  EXPECT_NE(generate("6").output, text.output);
  EXPECT_EQ(generate("5", "--temperature=0").output, generate("6", "--temperature=0").output);
  // One checkpoint by its own name, the older of the two.
  const Ended older =
      RunProgram({Trefoil(), "generate", "--checkpoint=" + folder_ + "/checkpoints/step-00000020/", "--tokens=2"});
  EXPECT_EQ(older.status, 0) << older.output;
  const Ended missing = RunProgram({Trefoil(), "generate", "--checkpoint=" + folder_ + "/nothing"});
  EXPECT_EQ(missing.status, 1);
  EXPECT_EQ(missing.output, "trefoil generate: --checkpoint: " + folder_ + "/nothing does not exist\n");

  // Another tokenizer is refused, and the checkpoint's own is found under its hash.
  const std::string copy = folder_ + "/tokenizer.model", other = TempDir() + "/other";
  ASSERT_EQ(RunProgram({Trefoil(), "tokenize", "--input=" + corpus_ + "/text.txt", "--output=" + other, "--vocabulary=290",
                        "--overwrite"}).status, 0);
  std::filesystem::rename(copy, folder_ + "/own");
  std::filesystem::copy_file(other + "/tokenizer.model", copy);
  const Ended refused = generate("5");
  const std::string line = "is another tokenizer than the checkpoint was trained with (";
  EXPECT_EQ(refused.status, 1);
  ASSERT_EQ(Count(refused.output, line), 1) << refused.output;
  const std::string hash = refused.output.substr(refused.output.find(line) + line.size(), 8);
  std::filesystem::rename(folder_ + "/own", folder_ + "/tokenizer-" + hash + ".model");
  EXPECT_EQ(generate("5").output, text.output);

  // A damaged checkpoint is passed over for the one before it, as in training, but left where it is; unless it was named.
  const std::string checkpoints = folder_ + "/checkpoints/", newest = checkpoints + "step-00000030";
  const auto generate_from = [&](const std::string& path) {
    return WithoutSpeeds(RunProgram({Trefoil(), "generate", "--checkpoint=" + path, "--tokens=20", "--temperature=0"}));
  };
  const std::string of_older = generate_from(checkpoints + "step-00000020").output;
  for (const char* file : {"/rank-00002.bin", "/manifest.json"}) {
    std::filesystem::resize_file(newest + file, 10);
    for (const std::string& path : {folder_, checkpoints}) {
      const Ended ended = generate_from(path);
      EXPECT_EQ(ended.status, 0) << ended.output;
      EXPECT_EQ(Count(ended.output, "trefoil generate: WARNING: "), 2) << ended.output;
      EXPECT_EQ(Count(ended.output, "step-00000030 is damaged: "), 1) << ended.output;
      EXPECT_EQ(Count(ended.output, "step-00000020 instead.\n"), 1) << ended.output;
      EXPECT_TRUE(ended.output.ends_with("instead.\n" + of_older)) << ended.output << "\ninstead of\n" << of_older;
    }
    const Ended named = generate_from(newest);
    EXPECT_EQ(named.status, 1);
    EXPECT_EQ(Count(named.output, "\n"), 1) << named.output;
  }
  std::filesystem::resize_file(checkpoints + "step-00000020/manifest.json", 10);
  const Ended none = generate_from(folder_);
  EXPECT_EQ(none.status, 1);
  EXPECT_EQ(Count(none.output, "no checkpoint of the run is whole, damaged: " + newest + ", "), 1) << none.output;
}

// Stopped by a signal, the run saves and ends with the status of what is to be tried again (EX_TEMPFAIL); started again, it goes on as if it had never stopped.
TEST_F(EndToEnd, StopsOnASignalAndGoesOn) {
  const std::string unbroken = Config("unbroken", "steps: 100000");
  const std::string unbroken_folder = folder_;
  const std::string config = Config("stopped", "steps: 100000");
  const std::string stopped_folder = folder_;

  size_t done = 0;
  {  // Ctrl-C on `trefoil launch`
    Program program({Trefoil(), "launch", "-n", "4", "--", "train", "--config=" + config}, TempDir() + "/launch.out");
    ASSERT_TRUE(program.Until([&] { return StepsDone() >= 3; })) << program.Output();
    kill(program.pid(), SIGINT);
    const Ended ended = program.Wait();
    EXPECT_EQ(ended.status, 75) << ended.output;
    done = StepsDone();
    EXPECT_EQ(Count(ended.output, "Stopped on request after step " + std::to_string(done) + ";"), 1) << ended.output;
    EXPECT_EQ(Count(ended.output, "Saved checkpoint of step " + std::to_string(done) + " in"), 1);
  }
  for (const bool all_ranks : {true, false}) {  // what Slurm does; and one rank alone
    Program program(Train(config), TempDir() + "/ranks.out");
    ASSERT_TRUE(program.Until([&] { return StepsDone() >= done + 3; })) << program.Output();
    const std::vector<pid_t> ranks = program.Children();
    ASSERT_EQ(ranks.size(), 4u);
    for (const pid_t rank : ranks) {
      if (all_ranks || rank == ranks[2]) kill(rank, SIGTERM);
    }
    const Ended ended = program.Wait();
    EXPECT_EQ(ended.status, 75) << ended.output;
    EXPECT_EQ(Count(ended.output, "Resuming from " + folder_ + "/checkpoints/step-"), 1) << ended.output;
    EXPECT_GE(StepsDone(), done + 3);
    done = StepsDone();
    EXPECT_EQ(Count(ended.output, "Stopped on request after step " + std::to_string(done) + ";"), 1) << ended.output;
  }
  const std::string steps = "training.steps=" + std::to_string(done + 2);
  const Ended last = RunProgram(Train(config, {steps}));
  EXPECT_EQ(last.status, 0) << last.output;
  const Ended whole = RunProgram(Train(unbroken, {steps}));
  EXPECT_EQ(whole.status, 0) << whole.output;
  std::vector<std::string> lines = Lines(stopped_folder), expected = Lines(unbroken_folder);
  ASSERT_EQ(lines.size(), done + 2);
  EXPECT_EQ(lines, expected);
}

// kill -9 of any rank at any moment, in a run that saves after every step: the newest checkpoint loads, and the run
// ends as if nothing had happened.
TEST_F(EndToEnd, SurvivesTheDeathOfAnyRank) {
  const std::string unbroken = Config("alive", "steps: 400 checkpoint { every_steps: 1 }");
  const std::string unbroken_folder = folder_;
  const std::string config = Config("killed", "steps: 400 checkpoint { every_steps: 1 }");
  int killed = 0;
  for (int attempt = 0; attempt < 5; ++attempt) {
    const size_t before = StepsDone();
    Program program(Train(config), TempDir() + "/killed.out");
    if (!program.Until([&] { return StepsDone() >= before + 2; })) break;  // done sooner
    usleep(static_cast<useconds_t>(attempt * attempt * 7919 + attempt * 1237));
    const std::vector<pid_t> ranks = program.Children();
    if (ranks.size() != 4) break;
    kill(ranks[static_cast<size_t>(attempt % 4)], SIGKILL);
    const Ended ended = program.Wait();
    EXPECT_NE(ended.status, 0) << ended.output;
    ++killed;
    EXPECT_FALSE(std::filesystem::is_empty(folder_ + "/checkpoints"));
  }
  EXPECT_GE(killed, 3) << "the run is too short to be killed in the middle";
  const size_t done = StepsDone();
  const std::string steps = "training.steps=" + std::to_string(done + 2);
  const Ended last = RunProgram(Train(config, {steps}));
  ASSERT_EQ(last.status, 0) << last.output;
  EXPECT_EQ(Count(last.output, "Resuming from"), 1) << last.output;
  const Ended whole = RunProgram(Train(unbroken, {steps, "training.checkpoint.every_steps=0"}));
  ASSERT_EQ(whole.status, 0) << whole.output;
  EXPECT_EQ(Lines(folder_), Lines(unbroken_folder));
  EXPECT_EQ(Lines(folder_).size(), done + 2);
}

// Two jobs started at the same moment in one folder: one runs as if it were alone, the other says whose the folder is. A job
// that is killed leaves its lock, which is no hindrance to the next.
TEST_F(EndToEnd, OfTwoStartsAtOnceOneHasTheFolder) {
  const std::string alone = Config("alone", "steps: 60 checkpoint { every_steps: 4 }");
  const std::string alone_folder = folder_;
  ASSERT_EQ(RunProgram(Train(alone)).status, 0);
  const std::string config = Config("both", "steps: 60 checkpoint { every_steps: 4 }");
  for (int round = 0; round < 3; ++round) {
    std::filesystem::remove_all(folder_);
    Program one(Train(config), TempDir() + "/one.out"), two(Train(config), TempDir() + "/two.out");
    Ended first = one.Wait(), second = two.Wait();
    if (first.status != 0) std::swap(first, second);
    EXPECT_EQ(first.status, 0) << first.output << "\n---\n" << second.output;
    EXPECT_EQ(Count(first.output, "Done: 60 steps"), 1) << first.output;
    EXPECT_EQ(second.status, 1) << second.output;
    EXPECT_EQ(Count(second.output, "trefoil train: folder: " + folder_ + " is in use by host "), 1) << second.output;
    EXPECT_EQ(Count(second.output, "Starting from"), 0) << second.output;
    EXPECT_EQ(Lines(folder_), Lines(alone_folder));
    EXPECT_FALSE(std::filesystem::exists(folder_ + "/lock"));
  }
  {
    Program killed(Train(config, {"training.steps=100000"}), TempDir() + "/killed.out");
    ASSERT_TRUE(killed.Until([&] { return StepsDone() >= 66; })) << killed.Output();
    const Ended refused = RunProgram(Train(config));
    EXPECT_EQ(refused.status, 1) << refused.output;
    EXPECT_LT(refused.seconds, 10);
    EXPECT_EQ(Count(refused.output, " is in use by host "), 1) << refused.output;
    const std::vector<pid_t> ranks = killed.Children();
    for (const pid_t rank : ranks) kill(rank, SIGKILL);
    EXPECT_NE(killed.Wait().status, 0);
  }
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/lock"));
  const Ended next = RunProgram(Train(config, {"training.steps=70"}));
  ASSERT_EQ(next.status, 0) << next.output;
  EXPECT_EQ(Count(next.output, "Took " + folder_ + " over from host "), 1) << next.output;
  EXPECT_EQ(Count(next.output, ": that process is gone."), 1) << next.output;
}

TEST_F(EndToEnd, BenchSaysHowFastItIs) {
  const Ended ended =
      RunProgram(OnRanks(2, {"bench", "--config=" + Config("bench", ""), "--set", "model.vocabulary=300", "--set",
                             "parallel.pipeline=1", "--steps=2", "--warm_up=1"}));
  EXPECT_EQ(ended.status, 0) << ended.output;
  for (const char* part :
       {"parameters, batch 8 x 16 tokens in micro-batches of 2, float32, 2 rank(s)", "measured peak", "tokens/s",
        "% of peak", "requests to the system during the timed steps: 0", "matmul", "attention", "outside ops"}) {
    EXPECT_GT(Count(ended.output, part), 0) << part << " is missing:\n" << ended.output;
  }
  EXPECT_EQ(Count(ended.output, "measured peak"), 1);
}

}  // namespace
}  // namespace trefoil
