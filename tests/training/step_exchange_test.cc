// What all ranks of a job tell each other in a step: one exchange, and what rides on it.
#include <algorithm>

#include "tests/training/run_testing.h"

namespace trefoil {
namespace {

// The messages in the group of all ranks that each rank sends in each step: by rank, then by step.
std::vector<std::vector<int64_t>> MessagesOfSteps(const RunConfig& config) {
  std::vector<std::vector<int64_t>> steps(static_cast<size_t>(RanksOf(config)));
  const RunOutcome outcome = RunTraining(config, [&](int rank, RankRun& run) {
    // Asked once before the first step, and once in each.
    run.options.stop_requested = [&run, &mine = steps[static_cast<size_t>(rank)], before = int64_t{-1}]() mutable {
      const int64_t sent = run.world.all().messages_sent();
      if (before >= 0) mine.push_back(sent - before);
      before = sent;
      return false;
    };
  });
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  return steps;
}

// Up the tree to rank 0 and down again: each rank but rank 0 sends one message up, and each gets one down.
TEST(StepExchange, AStepIsOneExchangeOfAllRanks) {
  for (const char* layout : {"data: 8", "tensor: 2 pipeline: 2 data: 2", "data: 64"}) {
    const RunConfig config = TinyRun(NewFolder("run"), std::string("model { layers: 2 } parallel { ") + layout +
                                                           " } training { steps: 5 global_batch: 64 }");
    const auto steps = MessagesOfSteps(config);
    const auto ranks = static_cast<int64_t>(steps.size());
    for (size_t step = 1; step < steps[0].size(); ++step) {
      int64_t sent = 0, most = 0;
      for (const auto& mine : steps) {
        sent += mine[step];
        most = std::max(most, mine[step]);
      }
      EXPECT_EQ(sent, 2 * (ranks - 1)) << layout;
      EXPECT_EQ(most, ranks == 64 ? 6 : 3) << layout << ": rank 0's, down the tree";
    }
  }
}

// Whichever rank is asked, before whichever step: all stop after the same one.
TEST(StepExchange, AStopAskedOfAnyRankStopsAllAtOneStep) {
  const RunConfig unbroken = TinyRun(NewFolder("unbroken"), "parallel { tensor: 2 pipeline: 2 data: 2 } training { steps: 4 }");
  ASSERT_TRUE(RunTraining(unbroken).status.ok());
  for (int asked = 0; asked < 8; ++asked) {
    for (const int steps : {0, 1, 3}) {
      const RunConfig config = With(unbroken, "folder: '" + NewFolder("asked") + "/run'");
      std::vector<int> times(8);
      const RunOutcome outcome = RunTraining(config, [&](int rank, RankRun& run) {
        run.options.stop_requested = [&, rank] {
          return times[static_cast<size_t>(rank)]++ == steps && rank == asked;
        };
      });
      ASSERT_TRUE(outcome.status.ok()) << outcome.status;
      EXPECT_EQ(outcome.end, RunEnd::kStopped);
      EXPECT_EQ(NewestStep(config), steps > 0 ? steps : -1) << "rank " << asked;
      EXPECT_EQ(Losses(config).size(), static_cast<size_t>(steps)) << "rank " << asked;
      EXPECT_EQ(times, std::vector<int>(8, steps + 1)) << "each rank is asked before the first step and in each";
      if (asked % 3 != 0) continue;
      ASSERT_EQ(RunTraining(config).end, RunEnd::kFinished);
      ExpectSameToTheBit(unbroken, config, 4);
    }
  }
}

}  // namespace
}  // namespace trefoil
