#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>

#include "tests/training/run_testing.h"

namespace trefoil {
namespace {

// One of each way to lay out a run.
const std::map<std::string, std::string> kLayouts = {
    {"one_rank", ""},
    {"interleaved", "tensor: 2 pipeline: 2 schedule: INTERLEAVED sequence_parallel: true"},
    {"folded", "pipeline: 2 data: 2 schedule: ZB_V"},
    {"gradients", "data: 4 zero: GRADIENTS"},
    {"weights", "tensor: 2 data: 2 zero: WEIGHTS"},
    {"context", "context: 2 data: 2 zero: OPTIMIZER"},
};

RunConfig Laid(RunConfig config, const std::string& folder, const std::string& layout) {
  config.clear_parallel();
  config.mutable_training()->clear_gradient_groups();
  return With(config, "folder: '" + folder + "' parallel { " + layout + " }");
}

class ResumeOnAnotherLayout : public testing::TestWithParam<const char*> {};

// What any layout has saved after half of a run, optimizer included, goes on with any other: the losses and gradient norms
// are those of one rank that was never stopped.
TEST_P(ResumeOnAnotherLayout, GivesTheLossesOfOneRank) {
  const std::string folder = NewFolder("runs");
  const RunConfig base =
      TinyRun(folder, std::string(GetParam()) + "model { layers: 4 } training { steps: 8 global_batch: 8 }");
  ASSERT_TRUE(RunTraining(base).status.ok());
  const std::vector<double> losses = Losses(base);
  ASSERT_EQ(losses.size(), 8u);
  for (const auto& [saver, saver_layout] : kLayouts) {
    const RunConfig stopped = Laid(base, folder + "/" + saver, saver_layout);
    const RunOutcome saved = RunAndStopAfter(stopped, 4);
    ASSERT_TRUE(saved.status.ok()) << saver << ": " << saved.status;
    for (const auto& [loader, loader_layout] : kLayouts) {
      SCOPED_TRACE("saved by " + saver + ", loaded by " + loader);
      const std::string copy = folder + "/" + saver + "_" + loader;
      std::filesystem::copy(stopped.folder(), copy, std::filesystem::copy_options::recursive);
      const RunConfig config = Laid(base, copy, loader_layout);
      const RunOutcome outcome = RunTraining(config);
      ASSERT_TRUE(outcome.status.ok()) << outcome.status;
      const std::vector<double> continued = Losses(config);
      ASSERT_EQ(continued.size(), losses.size());
      for (size_t i = 0; i < losses.size(); ++i) {
        EXPECT_LE(std::abs(continued[i] / losses[i] - 1), 1e-5) << "step " << i + 1;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ResumeOnAnotherLayout,
                         testing::Values("model { family: LLAMA } ", "model { family: GPT dropout: 0.1 } "));

}  // namespace
}  // namespace trefoil
