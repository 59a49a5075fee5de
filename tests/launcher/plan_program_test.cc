// `trefoil plan` and `trefoil rehearse` as a user runs them, and a training run that is planned not to fit.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/launcher/program_testing.h"

namespace trefoil {
namespace {

const std::vector<std::string> kSmall = {"--config=llama_60m",          "--set", "model.layers=4",
                                         "--set",                       "model.vocabulary=512",
                                         "--set",                       "training.global_batch=8",
                                         "--set",                       "training.micro_batch=1",
                                         "--set",                       "model.sequence_length=64"};

Ended RunSmall(const std::string& command, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {Trefoil(), command};
  arguments.insert(arguments.end(), kSmall.begin(), kSmall.end());
  arguments.insert(arguments.end(), more.begin(), more.end());
  return RunProgram(arguments);
}

void ExpectSaid(const Ended& ended, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) EXPECT_GE(Count(ended.output, part), 1) << part << "\n" << ended.output;
}

void ExpectRefused(const Ended& ended, int status, const std::string& line) {
  EXPECT_EQ(ended.status, status) << ended.output;
  EXPECT_EQ(Count(ended.output, line), 1) << line << "\n" << ended.output;
  EXPECT_EQ(Count(ended.output, "Check failed"), 0) << ended.output;
}

TEST(PlanProgram, TheTrillionParameterModelInSeconds) {
  const Ended ended = RunProgram({Trefoil(), "plan", "--config=gpt_1t.pbtxt", "--set", "parallel.tensor=8", "--set",
                                  "parallel.pipeline=64", "--set", "parallel.data=6",
                                  "--cluster=clusters/selene_a100.pbtxt"});
  EXPECT_EQ(ended.status, 0);
  EXPECT_LT(ended.seconds, 5);
  ExpectSaid(ended, {"1.01T parameters (1008038758400)", "3072 ranks of 1 x NVIDIA A100 80GB", "fullest: stage 0",
                     "fits: ", "sent ", "MFU ", "bubble ", "tokens in "});
}

// Without data, and in the units of what it reads.
TEST(PlanProgram, ImagesAreCountedAsImages) {
  const Ended ended = RunProgram({Trefoil(), "plan", "--config=vit_b16", "--cluster=dgx_h100"});
  EXPECT_EQ(ended.status, 0) << ended.output;
  ExpectSaid(ended, {"VIT: 12 layers, hidden 768, 12 heads, feed-forward 3072, 224x224x3 pixels in patches of 16, "
                     "1000 classes; 86.6M parameters (86567656)\n",
                     "batch     4096 images of 196 patches a step, 64 micro-batches of 64\n", "K images/s, ",
                     " 384M images in "});
  EXPECT_EQ(Count(ended.output, "tokens"), 0) << ended.output;
}

// Whatever bf16 instructions the CPU that plans has.
TEST(PlanProgram, ClustersOfGpusArePlannedOnALesserCpu) {
  for (const char* level : {"AVX2", "AMX"}) {
    setenv("TREFOIL_CPU_LEVEL", level, 1);
    const Ended ended = RunProgram({Trefoil(), "plan", "--config=gpt2_124m", "--cluster=dgx_a100", "--gpus=8"});
    unsetenv("TREFOIL_CPU_LEVEL");
    EXPECT_EQ(ended.status, 0) << ended.output;
    ExpectSaid(ended, {"BF16", "fits: "});
  }
}

TEST(PlanProgram, WritesTraceAndPicture) {
  const std::string folder = EmptyFolder("plan_pictures");
  const Ended ended = RunSmall("plan", {"--set", "parallel.pipeline=4", "--cluster=dgx_h100",
                                   "--timeline=" + folder + "/step.json", "--picture=" + folder + "/step.svg"});
  EXPECT_EQ(ended.status, 0) << ended.output;
  // Each of 8 micro-batches forward once on each of 4 stages.
  const nlohmann::json trace = nlohmann::json::parse(ReadText(folder + "/step.json"));
  int forwards = 0;
  for (const auto& event : trace.is_array() ? trace : trace["traceEvents"]) {
    forwards += event.value("name", "").rfind('F', 0) == 0 ? 1 : 0;
  }
  EXPECT_EQ(forwards, 32);
  EXPECT_EQ(Count(ReadText(folder + "/step.svg"), "</svg>"), 1);
}

TEST(PlanProgram, SearchKeepsWhatIsGiven) {
  const Ended ended = RunSmall("plan", {"--search", "--gpus=8", "--cluster=dgx_h100", "--set", "parallel.tensor=2"});
  EXPECT_EQ(ended.status, 0) << ended.output;
  EXPECT_GE(Count(ended.output, "tensor 2 x "), 2) << ended.output;
  EXPECT_EQ(Count(ended.output, "tensor 1 x ") + Count(ended.output, "tensor 4 x "), 0) << ended.output;
}

TEST(PlanProgram, RefusesInOneLine) {
  ExpectRefused(RunSmall("plan", {"--gpus=-1"}), 2, "--gpus: -1, must not be negative; nearest legal: 0");
  ExpectRefused(RunSmall("plan", {"--search", "--cluster=dgx_h100"}), 2, "--gpus: 0, --search needs the number of ranks");
  ExpectRefused(RunSmall("plan", {"--search", "--gpus=8"}), 2, "--search: needs times, so give --cluster");
  ExpectRefused(RunSmall("plan", {"--picture=x.svg"}), 2, "--picture: needs times, so give --cluster");
  ExpectRefused(RunSmall("plan", {"--cluster=dgx_h10"}), 1, "did you mean 'dgx_h100'?");
  ExpectRefused(RunSmall("plan", {"--gpus=6", "--set", "parallel.tensor=4"}), 2, "parallel: tensor 4 x");
  const std::string file = EmptyFolder("plan_cluster") + "/cluster.pbtxt";
  WriteText(file, "gpu: true\ndevice_per_node: 8\n");
  ExpectRefused(RunSmall("plan", {"--cluster=" + file}), 2, file + ":2: the config has no field 'device_per_node'");
  ExpectRefused(RunSmall("rehearse", {"--ranks=8", "--rank=8"}), 2, "--rank: 8, must be in [0, 7]; nearest legal: 7");
  ExpectRefused(RunSmall("rehearse", {"--micro_batches=9"}), 2, "--micro_batches: 9, must be in [0, 8]; nearest legal: 8");
}

TEST(PlanProgram, RehearsalTakesWhatIsPlanned) {
  const Ended ended = RunSmall("rehearse", {"--set", "parallel.tensor=4", "--set", "parallel.pipeline=2", "--set",
                                       "parallel.data=4", "--rank=17", "--micro_batches=2"});
  EXPECT_EQ(ended.status, 0) << ended.output;
  ExpectSaid(ended, {"rehearsal rank 17 of 32", "weights", "measured"});
  EXPECT_EQ(Count(ended.output, "exact"), 8) << ended.output;  // six purposes, all at once, reserved
}

TEST(PlanProgram, TrainingThatDoesNotFitIsNotStarted) {
  const std::string folder = EmptyFolder("plan_refused");
  WriteZeroTokens(folder + "/train");
  std::vector<std::string> arguments = {"train"};
  arguments.insert(arguments.end(), kSmall.begin(), kSmall.end());
  for (const std::string& set : {"folder=" + folder + "/run", "data.train=" + folder + "/train",
                                 std::string("parallel.tensor=2"), std::string("runtime.memory_limit_gib=0.1")}) {
    arguments.push_back("--set");
    arguments.push_back(set);
  }
  const Ended ended = RunProgram(OnRanks(2, arguments));
  ExpectRefused(ended, 1, "trefoil train: memory: rank ");
  ExpectSaid(ended, {"must be at most 102 MiB (runtime.memory_limit_gib)", "DOES NOT FIT", "nearest legal"});
  EXPECT_FALSE(std::filesystem::exists(folder + "/run"));
}

// Memory in which all fits but the second buffer of saves in the background.
TEST(PlanProgram, SavesAreInTheForegroundWhereOnlyTheirBufferDoesNotFit) {
  const std::string folder = EmptyFolder("plan_foreground");
  WriteZeroTokens(folder + "/train");
  const auto train = [&](const std::string& name, const std::string& limit) {
    std::vector<std::string> arguments = {"train", "--config=llama_60m"};
    for (const std::string& set :
         {"folder=" + folder + "/" + name, "data.train=" + folder + "/train",
          std::string("model=layers: 4 hidden: 256 heads: 4 kv_heads: 4 feed_forward: 512 vocabulary: 300 "
                      "sequence_length: 16"),
          std::string("training=steps: 4 global_batch: 8 micro_batch: 1 precision: FP32 optimizer { warmup_steps: 1 } "
                      "checkpoint { every_steps: 1 keep_last: 1 keep_every: 1 }"),
          "runtime=memory_limit_gib: " + limit + " threads: 1"}) {
      arguments.insert(arguments.end(), {"--set", set});
    }
    return RunProgram(OnRanks(2, arguments));
  };
  // On each of two ranks 11 MB of weights, 11 of gradients, 11 of moments, and a buffer of 17.
  const Ended tight = train("tight", "0.04"), ample = train("ample", "0.1");
  for (const Ended* ended : {&tight, &ample}) {
    EXPECT_EQ(ended->status, 0) << ended->output;
    ExpectSaid(*ended, {"exact on 2 of 2", "Saved checkpoint of step 3 in "});
  }
  const std::string line = "saves     in the foreground: the second buffer";
  EXPECT_EQ(Count(tight.output, line), 1) << tight.output;
  EXPECT_EQ(Count(tight.output, "in the background; training waited"), 0) << tight.output;
  EXPECT_EQ(Count(ample.output, line), 0) << ample.output;
  EXPECT_EQ(Count(ample.output, "in the background; training waited"), 3) << ample.output;
}

TEST(PlanProgram, TheHostsMemoryOfAClusterCounts) {
  const std::string folder = EmptyFolder("plan_host");
  for (const std::string host : {"", "host_memory_gib: 16 ", "host_memory_gib: 1 "}) {
    const std::string file = folder + "/gpus" + std::to_string(host.size());
    std::ofstream(file) << host << "device: 'a' gpu: true devices_per_node: 8 memory_gib: 80 "
                        << "peaks { dtype: 'bfloat16' tflops: 300 } node { gbytes_per_second: 200 } "
                        << "network { gbytes_per_second: 20 } ops { gbytes_per_second: 1000 }";
    const Ended ended = RunProgram({Trefoil(), "plan", "--config=llama_60m", "--cluster=" + file, "--gpus=1"});
    EXPECT_EQ(ended.status, 0) << ended.output;
    const bool fits = host.find(": 1 ") == std::string::npos;
    EXPECT_EQ(Count(ended.output, "saves     in the foreground: "), fits ? 0 : 1) << ended.output;
    EXPECT_EQ(Count(ended.output, "          on the host, at most "), fits ? 1 : 0) << ended.output;
    EXPECT_EQ(Count(ended.output, "if it has so much (host_memory_gib of the cluster)"), host.empty() ? 1 : 0)
        << ended.output;
    EXPECT_EQ(Count(ended.output, ", which has 2.00 GiB: "), fits && !host.empty() ? 1 : 0) << ended.output;
  }
}

// A model whose weights, gradients and moments are twice what one rank may have, and with split moments alone still more
// than four may: split altogether it trains, and takes what was planned.
TEST(PlanProgram, ZeroThreeTrainsWhatOneRankCannotHold) {
  const std::string folder = EmptyFolder("plan_zero");
  WriteZeroTokens(folder + "/train");
  const auto train = [&](int ranks, const std::string& zero) {
    std::vector<std::string> arguments = {"train", "--config=llama_60m"};
    for (const std::string& set :
         {"folder=" + folder + "/" + zero, "data.train=" + folder + "/train", "parallel.zero=" + zero,
          std::string("model=layers: 24 hidden: 256 heads: 4 kv_heads: 4 feed_forward: 512 vocabulary: 300 "
                      "sequence_length: 16"),
          std::string("training=steps: 3 global_batch: 8 micro_batch: 1 precision: FP32 optimizer { warmup_steps: 1 }"),
          std::string("runtime=memory_limit_gib: 0.12 threads: 1")}) {
      arguments.insert(arguments.end(), {"--set", set});
    }
    return RunProgram(OnRanks(ranks, arguments));
  };
  const Ended alone = train(1, "OPTIMIZER");
  ExpectRefused(alone, 1, "trefoil train: memory: rank 0 would reserve");
  ExpectSaid(alone, {"DOES NOT FIT: 2"});
  const Ended split = train(4, "OPTIMIZER");
  ExpectRefused(split, 1, "trefoil train: memory: rank ");
  ExpectSaid(split, {"ZeRO WEIGHTS"});  // among the nearest legal
  const Ended ended = train(4, "WEIGHTS");
  EXPECT_EQ(ended.status, 0) << ended.output;
  ExpectSaid(ended, {"ZeRO: WEIGHTS", "step 3/3", "exact on 4 of 4"});
}

}  // namespace
}  // namespace trefoil
