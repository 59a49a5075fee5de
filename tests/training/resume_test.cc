#include <cmath>
#include <filesystem>

#include "tests/training/run_testing.h"
#include "training/saving/resume.h"

namespace trefoil {
namespace {

struct Case {
  const char* name;
  const char* config;
};

class SameLayout : public testing::TestWithParam<Case> {};

// Stopped on request after 10 of 20 steps and started again, a run ends with the same bits as one that was not: losses,
// norms, learning rates, held-out losses, weights, moments, trainer state.
TEST_P(SameLayout, TenAndTenStepsAreTwentyToTheBit) {
  const std::string folder = NewFolder("runs");
  const RunConfig unbroken =
      TinyRun(folder, std::string("data { held_out: '") + folder +
                          "/held_out' } training { evaluate_every_steps: 4 } " + GetParam().config);
  ASSERT_TRUE(RunTraining(unbroken).status.ok());
  const std::vector<double> losses = Losses(unbroken);
  ASSERT_EQ(losses.size(), 20u);
  EXPECT_LT(losses.back(), losses.front() - 0.3) << "nothing was learned";

  const RunConfig stopped = With(unbroken, "folder: '" + folder + "/stopped'");
  const RunOutcome first = RunAndStopAfter(stopped, 10);
  ASSERT_TRUE(first.status.ok()) << first.status;
  EXPECT_EQ(first.end, RunEnd::kStopped);
  EXPECT_NE(first.output.find("Stopped on request after step 10"), std::string::npos) << first.output;
  EXPECT_EQ(Losses(stopped).size(), 10u);
  EXPECT_EQ(NewestStep(stopped), 10);
  const RunOutcome second = RunTraining(stopped);
  ASSERT_TRUE(second.status.ok()) << second.status;
  EXPECT_EQ(second.end, RunEnd::kFinished);
  EXPECT_NE(second.output.find("(step 10, 80 samples used)"), std::string::npos) << second.output;
  EXPECT_EQ(second.output.find("Note:"), std::string::npos) << second.output;
  ExpectSameToTheBit(unbroken, stopped, 20);

  const RunOutcome third = RunTraining(stopped);
  EXPECT_TRUE(third.status.ok());
  EXPECT_NE(third.output.find("This run is finished: step 20 of 20"), std::string::npos) << third.output;
  ExpectSameToTheBit(unbroken, stopped, 20);
}

constexpr char kGpt[] = "model { family: GPT dropout: 0.1 }";
constexpr char kGptBfloat16[] = "model { family: GPT dropout: 0.1 } training { precision: BF16 }";
constexpr char kGptOnEight[] = "model { family: GPT dropout: 0.1 } parallel { tensor: 2 pipeline: 2 data: 2 }";
constexpr char kGptOnEightBfloat16[] =
    "model { family: GPT dropout: 0.1 } training { precision: BF16 }"
    "parallel { tensor: 2 pipeline: 2 data: 2 schedule: INTERLEAVED sequence_parallel: true }";
constexpr char kLlamaOnEightBfloat16[] =
    "training { precision: BF16 } parallel { tensor: 2 pipeline: 2 data: 2 sequence_parallel: true }";

INSTANTIATE_TEST_SUITE_P(Resume, SameLayout,
                         testing::Values(Case{"Llama", "model { kv_heads: 2 }"},
                                         Case{"LlamaBfloat16", "training { precision: BF16 }"}, Case{"Gpt", kGpt},
                                         Case{"GptBfloat16", kGptBfloat16},
                                         Case{"LlamaOnEight", "parallel { tensor: 2 pipeline: 2 data: 2 }"},
                                         Case{"LlamaOnEightBfloat16", kLlamaOnEightBfloat16},
                                         Case{"GptOnEight", kGptOnEight},
                                         Case{"GptOnEightBfloat16", kGptOnEightBfloat16}),
                         [](const auto& info) { return info.param.name; });

class OtherLayout : public testing::TestWithParam<const char*> {};

// A checkpoint of (tensor 2, pipeline 2, data 2) goes on elsewhere within 1e-5 of the unbroken run's losses.
TEST_P(OtherLayout, ACheckpointOfTwoTwoTwoContinuesAnywhere) {
  const std::string folder = NewFolder("runs");
  const RunConfig unbroken = TinyRun(folder, std::string(GetParam()) + "parallel { tensor: 2 pipeline: 2 data: 2 }");
  ASSERT_TRUE(RunTraining(unbroken).status.ok());
  const std::vector<double> losses = Losses(unbroken);
  const RunConfig stopped = With(unbroken, "folder: '" + folder + "/stopped'");
  ASSERT_TRUE(RunAndStopAfter(stopped, 10).status.ok());

  int runs = 0;
  for (const char* layout :
       {"tensor: 1 pipeline: 1 data: 1", "tensor: 4 pipeline: 1 data: 2 zero: NONE", "tensor: 1 pipeline: 4 data: 1",
        "tensor: 1 pipeline: 1 data: 4", "tensor: 2 pipeline: 2 data: 2 zero: NONE",
        "tensor: 2 pipeline: 1 data: 2 zero: GRADIENTS", "tensor: 1 pipeline: 2 data: 2 zero: WEIGHTS",
        "tensor: 2 pipeline: 2 data: 1 schedule: INTERLEAVED chunks: 2 sequence_parallel: true recompute: FULL"}) {
    SCOPED_TRACE(layout);
    const std::string copy = folder + "/copy" + std::to_string(runs++);
    std::filesystem::copy(stopped.folder(), copy, std::filesystem::copy_options::recursive);
    const RunConfig config = With(stopped, "folder: '" + copy + "' parallel { " + layout + " }");
    const RunOutcome outcome = RunTraining(config);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    const std::vector<double> continued = Losses(config);
    ASSERT_EQ(continued.size(), 20u);
    for (size_t i = 0; i < continued.size(); ++i) {
      EXPECT_LE(std::abs(continued[i] / losses[i] - 1), 1e-5) << "step " << i + 1;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Resume, OtherLayout,
                         testing::Values("model { family: LLAMA } ", "model { family: GPT dropout: 0.1 } "));

// ZeRO is a placement: what it splits, and whether it does so all the time, changes no bit of the losses and the state
// of an fp32 run with one micro-batch a rank. (Nothing is clipped here: the norm's last bits depend on where the shards end.)
TEST(Resume, ZeroMayBeTurnedOnAndOff) {
  const std::string folder = NewFolder("runs");
  const RunConfig none =
      TinyRun(folder,
              "parallel { data: 2 zero: NONE } training { steps: 8 micro_batch: 4 optimizer { clip_norm: 0 } }");
  ASSERT_TRUE(RunTraining(none).status.ok());
  const std::vector<std::string> stages = {"NONE", "OPTIMIZER", "GRADIENTS", "WEIGHTS"};
  for (const std::string& first : stages) {
    for (const std::string& second : stages) {
      if (first == second) continue;
      SCOPED_TRACE(first + " " + second);
      RunConfig config =
          With(none, "folder: '" + folder + "/" + first + second + "' parallel { zero: " + first + " }");
      ASSERT_TRUE(RunAndStopAfter(config, 4).status.ok());
      config = With(config, "parallel { zero: " + second + " }");
      ASSERT_TRUE(RunTraining(config).status.ok());
      EXPECT_EQ(Losses(config), Losses(none));
      EXPECT_TRUE(CheckpointContentOf(config, 8) == CheckpointContentOf(none, 8));
    }
  }
}

TEST(Resume, AStopBeforeTheFirstStepLosesNothing) {
  const std::string folder = NewFolder("runs");
  const RunConfig unbroken = TinyRun(folder, "training { steps: 3 }");
  ASSERT_TRUE(RunTraining(unbroken).status.ok());
  const RunConfig config = With(unbroken, "folder: '" + folder + "/stopped'");
  for (const int steps : {0, 1, 0}) ASSERT_TRUE(RunAndStopAfter(config, steps).status.ok());
  EXPECT_EQ(NewestStep(config), 1);
  ASSERT_TRUE(RunTraining(config).status.ok());
  ExpectSameToTheBit(unbroken, config, 3);
}

TEST(Resume, SaysWhatTheRunNowDoesOtherwise) {
  const std::string folder = NewFolder("runs");
  const RunConfig config = TinyRun(folder, "training { steps: 2 }");
  ASSERT_TRUE(RunTraining(config).status.ok());
  const RunOutcome longer = RunTraining(
      With(config, "training { steps: 3 global_batch: 4 optimizer { clip_norm: 2 } seed: 8 } data { seed: 9 }"),
      [](int, RankRun& run) { run.options.allow_change = true; });
  ASSERT_TRUE(longer.status.ok()) << longer.status;
  for (const char* note : {"training.steps was 2, is 3", "training.global_batch was 8, is 4",
                           "training.seed was 7, is 8", "data.seed was 7, is 9", "clip_norm: 2"}) {
    EXPECT_NE(longer.output.find(note), std::string::npos) << note << " is missing:\n" << longer.output;
  }
  EXPECT_EQ(NewestStep(config), 3);
}

// The model's text of a checkpoint may lack a field that a later program fills in by default; one that says otherwise is
// another model.
TEST(Resume, AModelTextWithoutAFieldHasItsDefault) {
  const ModelConfig model = TinyRun(NewFolder("runs"), "model { family: GPT }").model();
  ModelConfig older = model;
  older.clear_tied();
  older.clear_qkv_bias();
  older.clear_qk_norm();
  older.clear_attention_output_bias();
  older.clear_mlp_bias();
  older.clear_activation();
  older.clear_gated();
  EXPECT_EQ(ModelDifferences(*ModelOfText(ModelText(older), ""), model), std::vector<std::string>());
  older.set_tied(!model.tied());
  EXPECT_EQ(ModelDifferences(*ModelOfText(ModelText(older), ""), model),
            std::vector<std::string>{"model.tied: false in the checkpoint, true in this run"});
}

// initial_weights: the weights of another run, on any layout, with a fresh optimizer, from step 1.
TEST(Resume, StartsFromTheWeightsOfAnotherRun) {
  const std::string folder = NewFolder("runs");
  const RunConfig first = TinyRun(folder);
  ASSERT_TRUE(RunTraining(first).status.ok());
  const RunConfig random = With(first, "folder: '" + folder + "/random' training { steps: 1 }");
  ASSERT_TRUE(RunTraining(random).status.ok());
  std::vector<double> losses;
  for (const char* layout : {"data: 1", "tensor: 2 data: 2"}) {
    const RunConfig next =
        With(first, "folder: '" + folder + "/next" + std::to_string(losses.size()) + "' parallel { " + layout +
                        " } training { steps: 1 checkpoint { initial_weights: '" + first.folder() +
                        "/checkpoints/step-00000020' } }");
    const RunOutcome outcome = RunTraining(next);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    losses.push_back(Losses(next).at(0));
    EXPECT_NE(CheckpointContentOf(next, 1).at("trainer_state").find("samples_used: 8"), std::string::npos);
  }
  EXPECT_LT(losses[0], Losses(random).at(0) - 0.3);
  EXPECT_NEAR(losses[0], losses[1], 1e-5);
}

// What is not trained is in a checkpoint like the rest, but for moments; it goes on on another layout, and as the whole
// model, whose other parameters then begin with moments of zero.
TEST(Resume, WithFrozenLayers) {
  const std::string folder = NewFolder("runs");
  const std::string tuning = "model { layers: 2 } training { steps: 6 fine_tuning { frozen_layers: 1 } } ";
  const RunConfig unbroken = TinyRun(folder, tuning);
  ASSERT_TRUE(RunTraining(unbroken).status.ok());
  const RunConfig config = With(unbroken, "folder: '" + folder + "/stopped'");
  ASSERT_TRUE(RunAndStopAfter(config, 3).status.ok());
  ASSERT_TRUE(RunTraining(config).status.ok());
  ExpectSameToTheBit(unbroken, config, 6);
  const auto content = CheckpointContentOf(config, 6);
  for (const char* frozen : {"embedding.token.weight", "blocks.0.mlp.up.weight"}) {
    EXPECT_TRUE(content.contains(frozen)) << frozen;
    EXPECT_FALSE(content.contains(std::string("adam.m/") + frozen)) << frozen;
  }
  EXPECT_TRUE(content.contains("adam.m/blocks.1.mlp.up.weight"));

  const RunConfig layout = With(config, "parallel { tensor: 2 data: 2 } training { steps: 7 }");
  ASSERT_TRUE(RunTraining(layout).status.ok());
  EXPECT_EQ(CheckpointContentOf(layout, 7).at("blocks.0.mlp.up.weight"), content.at("blocks.0.mlp.up.weight"));
  RunConfig whole = With(layout, "training { steps: 8 }");
  whole.mutable_training()->mutable_fine_tuning()->clear_frozen_layers();
  const RunOutcome outcome = RunTraining(whole);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_NE(
      outcome.output.find("Note: training.fine_tuning was {layer_decay: 1 frozen_layers: 1}, is {layer_decay: 1}: "),
      std::string::npos)
      << outcome.output;
  EXPECT_NE(CheckpointContentOf(whole, 8).at("blocks.0.mlp.up.weight"), content.at("blocks.0.mlp.up.weight"));
  EXPECT_TRUE(CheckpointContentOf(whole, 8).contains("adam.m/blocks.0.mlp.up.weight"));
}

}  // namespace
}  // namespace trefoil
