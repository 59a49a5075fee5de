#include "training/saving/merge_adapters.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>

#include <cstring>

#include "model/layers/low_rank.h"
#include "parallel/collectives/world.h"
#include "runtime/device.h"
#include "runtime/files/file.h"
#include "tests/training/run_testing.h"

namespace trefoil {
namespace {

using testing::HasSubstr;

constexpr char kLora[] = "model { lora { rank: 3 alpha: 6 on: QUERY on: VALUE on: OUTPUT on: GATE on: DOWN } } ";

absl::StatusOr<MergedCheckpoint> Merge(const std::string& checkpoint, const std::string& run) {
  absl::StatusOr<MergedCheckpoint> merged = absl::UnknownError("");
  RunRanksAsThreads(1, [&](World& world) {
    const std::unique_ptr<Device> device = NewCpuDevice(1);
    const std::unique_ptr<Group> alone = world.NewGroupOfAll(*device);
    merged = MergeAdapters(FileSystem::Posix(), *alone, checkpoint, run);
  });
  return merged;
}

std::vector<float> Values(const std::string& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// The held-out loss at the end of the run.
std::string HeldOut(const RunOutcome& outcome) {
  const size_t at = outcome.output.rfind("held-out loss ");
  EXPECT_NE(at, std::string::npos) << outcome.output;
  return outcome.output.substr(at + 14);
}

class MergeAdaptersTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = NewFolder("runs");
    // Steps are long, so that the adapters matter.
    adapted_ = TinyRun(
        folder_, absl::StrCat("data { held_out: '", folder_, "/held_out' } parallel { tensor: 2 } training { steps: 8 ",
                              "optimizer { learning_rate: 0.05 } } model { layers: 2 } ", kLora));
    outcome_ = RunTraining(adapted_);
    ASSERT_TRUE(outcome_.status.ok()) << outcome_.status;
    checkpoint_ = adapted_.folder() + "/checkpoints/step-00000008";
    const auto merged = Merge(checkpoint_, folder_ + "/merged");
    ASSERT_TRUE(merged.ok()) << merged.status();
    EXPECT_EQ(merged->path, folder_ + "/merged/checkpoints/step-00000008");
    EXPECT_EQ(merged->matrices, 2 * 5);
  }
  // A plain run that starts from the weights in `name`.
  RunConfig Plain(const std::string& name, const std::string& more = "") const {
    return TinyRun(
        folder_,
        absl::StrCat("folder: '", folder_, "/plain' data { held_out: '", folder_, "/held_out' } model { layers: 2 } ",
                     "training { steps: 1 optimizer { learning_rate: 1e-30 weight_decay: 0 } checkpoint { ",
                     "initial_weights: '", folder_, "/", name, "' } } ", more));
  }

  std::string folder_, checkpoint_;
  RunConfig adapted_;
  RunOutcome outcome_;
};

TEST_F(MergeAdaptersTest, ThePlainModelComputesTheSame) {
  const RunConfig plain = Plain("merged");
  const RunOutcome outcome = RunTraining(plain);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_THAT(outcome.output, HasSubstr("(step 8): all 21 parameters are taken.\n"));
  const double before = std::stod(HeldOut(outcome_)), after = std::stod(HeldOut(outcome));
  EXPECT_NEAR(after, before, 1e-5 * before);
  // Without the adapters it does not.
  RunConfig random = Plain("merged", "training { checkpoint { initial_weights: '' } }");
  random.mutable_training()->mutable_checkpoint()->clear_initial_weights();
  random.set_folder(folder_ + "/base");  // of the same seed: what the adapters were trained beside
  EXPECT_GT(std::abs(std::stod(HeldOut(RunTraining(random))) - before), 0.05);
}

TEST_F(MergeAdaptersTest, OnlyAdaptedMatricesChange) {
  RunConfig merged = adapted_;
  merged.set_folder(folder_ + "/merged");
  const auto from = CheckpointContentOf(adapted_, 8), to = CheckpointContentOf(merged, 8);
  int changed = 0;
  for (const auto& [name, bytes] : from) {
    EXPECT_EQ(to.contains(name), !absl::StrContains(name, "/") && !IsAdapter(name)) << name;
    if (!to.contains(name)) continue;
    const std::string prefix = name.substr(0, name.rfind('.'));
    const bool adapted = from.contains(prefix + ".lora_a") && name.ends_with(".weight");
    EXPECT_EQ(to.at(name) != bytes, adapted) << name;
    if (!adapted) continue;
    ++changed;
    // One element by hand.
    const std::vector<float> a = Values(from.at(prefix + ".lora_a")), b = Values(from.at(prefix + ".lora_b"));
    const size_t inputs = a.size() / 3, row = 5, column = 7;
    double expected = Values(bytes)[row * inputs + column];
    for (size_t r = 0; r < 3; ++r) expected += 2.0 * b[row * 3 + r] * a[r * inputs + column];
    EXPECT_FLOAT_EQ(Values(to.at(name))[row * inputs + column], static_cast<float>(expected)) << name;
  }
  EXPECT_EQ(changed, 2 * 5);
}

TEST_F(MergeAdaptersTest, WhatCannotBeIsRefused) {
  EXPECT_THAT(Merge(folder_ + "/merged/checkpoints/step-00000008", folder_ + "/again").status().message(),
              HasSubstr("is of a model without adapters (model.lora): there is nothing to merge"));
  EXPECT_FALSE(FileSystem::Posix().Exists(folder_ + "/again"));
  // Adapters do not fit beside a plain model, nor other ones.
  for (const char* more :
       {"", "model { lora { rank: 3 alpha: 7 on: QUERY on: VALUE on: OUTPUT on: GATE on: DOWN } }"}) {
    const absl::Status refused = RunTraining(Plain("run", more)).status;
    EXPECT_THAT(refused.message(), HasSubstr("model.lora: "));
    EXPECT_THAT(refused.message(), HasSubstr("`trefoil merge` adds the checkpoint's adapters to its matrices"));
  }
  EXPECT_THAT(RunTraining(Plain("run", kLora)).output, HasSubstr("(step 8): all 41 parameters are taken.\n"));
  // No run goes on from weights alone.
  RunConfig merged = With(Plain("merged"), "training { steps: 9 }");
  merged.set_folder(folder_ + "/merged");
  merged.mutable_training()->mutable_checkpoint()->clear_initial_weights();
  EXPECT_THAT(RunTraining(merged, [](int, RankRun& run) { run.options.allow_change = true; }).status.message(),
              HasSubstr("has weights only, and no run goes on from it"));
}

// New ones change nothing yet.
TEST_F(MergeAdaptersTest, AdaptersBesideTheWeightsOfAPlainRun) {
  const RunConfig adapted = Plain("merged", "model { lora { rank: 2 } }");
  const RunOutcome outcome = RunTraining(adapted);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_THAT(outcome.output,
              HasSubstr("(step 8): 21 parameters are taken; 8 are new, at random: blocks.0.attention.q.lora_a, "));
  const double before = std::stod(HeldOut(outcome_)), after = std::stod(HeldOut(outcome));
  EXPECT_NEAR(after, before, 1e-5 * before);
}

}  // namespace
}  // namespace trefoil
