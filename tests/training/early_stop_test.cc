#include "training/early_stop.h"

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "checkpoint/directory.h"
#include "runtime/files/file.h"
#include "runtime/random.h"
#include "tests/training/run_testing.h"
#include "training/saving/newest_checkpoint.h"
#include "training/saving/resume.h"

// Runs that end because their held-out loss or accuracy gets no better: training.early_stop.evaluations,
// training.early_stop.by.
namespace trefoil {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// A text of ten ids in a fixed order, and a held-out one of the same ten in no order: that these are the ten helps on
// both, what follows what makes the second worse.
RunConfig Overfitting(const std::string& more) {
  const std::string folder = NewFolder("runs");
  const RunConfig config = TinyRun(
      folder,
      absl::StrCat("model { layers: 2 } data { held_out: '", folder, "/random' } training { steps: 80 ",
                   "evaluate_every_steps: 2 optimizer { learning_rate: 0.01 } checkpoint { keep_last: 1 } } ", more));
  std::vector<int32_t> ordered = {1}, random;
  for (int i = 0; i < 100 * 16; ++i) ordered.push_back((ordered.back() * 7 + 3) % 10);
  for (uint64_t i = 0; i <= 20 * 16; ++i) random.push_back(static_cast<int32_t>(Philox(3, i)[0] % 10));
  WriteTokens(folder + "/train", ordered, 61);
  WriteTokens(folder + "/random", random, 61);
  return config;
}

// By step.
std::map<int64_t, double> HeldOut(const RunConfig& config, const char* metric) {
  std::map<int64_t, double> values;
  std::ifstream file(config.folder() + "/metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    const auto json = nlohmann::json::parse(line);
    if (json.contains(metric)) values[json["step"].get<int64_t>()] = json[metric].get<double>();
  }
  return values;
}

struct Stop {
  int64_t best = 0, last = 0;
};
// By what the evaluations found, the sign such that less is better.
Stop Expected(const std::map<int64_t, double>& values, int evaluations, double sign) {
  Stop stop;
  int since = 0;
  for (const auto& [step, value] : values) {
    stop.last = step;
    if (stop.best == 0 || sign * value < sign * values.at(stop.best)) {
      stop.best = step;
      since = 0;
    } else if (++since == evaluations) {
      break;
    }
  }
  return stop;
}

std::vector<int64_t> Checkpoints(const RunConfig& config) {
  const auto paths = CompleteCheckpoints(FileSystem::Posix(), CheckpointsFolder(config));
  CHECK(paths.ok()) << paths.status();
  std::vector<int64_t> steps;
  for (const std::string& path : *paths) steps.push_back(StepOf(path));
  return steps;
}

// The steps of the best evaluation after each of these, and whether the run then stops.
TEST(EarlyStop, CountsEvaluationsThatAreNotBetter) {
  EarlyStopConfig config;
  config.set_by(EarlyStopConfig::LOSS);
  TrainerState state;
  const auto evaluate = [&](int64_t step, double loss, double accuracy) {
    state.set_step(step);
    return NoteEvaluation(config, {.loss = loss, .accuracy = accuracy}, &state);
  };
  EXPECT_FALSE(evaluate(1, 5, 0)) << "nobody asked";
  EXPECT_FALSE(state.has_early_stop());
  config.set_evaluations(2);
  EXPECT_TRUE(evaluate(2, 4, 0.1));
  EXPECT_FALSE(evaluate(3, 4, 0.2)) << "as good is not better";
  EXPECT_TRUE(evaluate(4, 3.9, 0.3));
  EXPECT_FALSE(evaluate(5, 3.95, 0.4));
  EXPECT_FALSE(StopsEarly(config, state));
  EXPECT_FALSE(evaluate(6, 7, 0.5));
  EXPECT_TRUE(StopsEarly(config, state));
  EXPECT_EQ(EarlyStopText(state),
            "the held-out loss was best at step 4 (3.9), and the 2 evaluations since were not better");
  // Another metric begins anew: its values are not to be compared with these.
  config.set_by(EarlyStopConfig::ACCURACY);
  EXPECT_FALSE(StopsEarly(config, state));
  EXPECT_TRUE(evaluate(7, 8, 0.25));
  EXPECT_TRUE(evaluate(8, 9, 0.3));
  EXPECT_FALSE(evaluate(9, 1, 0.3));
  EXPECT_EQ(EarlyStopText(state),
            "the held-out accuracy was best at step 8 (0.3), and the evaluation since was not better");
}

TEST(EarlyStop, EndsARunThatGetsNoBetterAndKeepsTheBest) {
  const RunConfig config = Overfitting("training { early_stop { evaluations: 3 } }");
  const RunOutcome outcome = RunTraining(config);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.end, RunEnd::kFinished);
  const std::map<int64_t, double> losses = HeldOut(config, "held_out_loss");
  const Stop stop = Expected(losses, 3, 1);
  EXPECT_GT(stop.best, 2);
  EXPECT_EQ(stop.last, losses.rbegin()->first) << "the run goes on";
  EXPECT_EQ(stop.last, stop.best + 6);
  EXPECT_LT(stop.last, 80);
  EXPECT_THAT(outcome.output, HasSubstr(absl::StrCat("Stopped early after step ", stop.last,
                                                     ": the held-out loss was best at step ", stop.best, " (")));
  EXPECT_THAT(outcome.output, HasSubstr(absl::StrCat("; the best checkpoint is ",
                                                     CheckpointPath(CheckpointsFolder(config), stop.best), ".\n")));
  EXPECT_THAT(Checkpoints(config), ElementsAre(stop.last, stop.best));
  EXPECT_GT(CheckpointContentOf(config, stop.best).size(), 3u);

  // Again: it is finished, and says so. With more patience it goes on, to the same end that it would have had at once.
  const RunOutcome again = RunTraining(config);
  EXPECT_TRUE(again.status.ok());
  EXPECT_THAT(again.output, HasSubstr(absl::StrCat("This run is finished: it stopped early after step ", stop.last)));
  EXPECT_EQ(HeldOut(config, "held_out_loss"), losses);
  const RunConfig patient = With(config, "training { early_stop { evaluations: 6 } }");
  ASSERT_TRUE(RunTraining(patient).status.ok());
  const Stop later = Expected(HeldOut(patient, "held_out_loss"), 6, 1);
  EXPECT_EQ(HeldOut(patient, "held_out_loss").rbegin()->first, later.last);
  EXPECT_EQ(Checkpoints(patient), (std::vector<int64_t>{later.last, later.best}));
}

// Stopped before, at and after the best, on other layouts.
TEST(EarlyStop, ARunThatGoesOnStopsWhereItWouldHave) {
  const RunConfig unbroken = Overfitting("training { early_stop { evaluations: 3 } }");
  ASSERT_TRUE(RunTraining(unbroken).status.ok());
  const Stop stop = Expected(HeldOut(unbroken, "held_out_loss"), 3, 1);
  const RunConfig config = With(unbroken, "folder: '" + unbroken.folder() + "_stopped'");
  for (const int64_t steps : {stop.best - 1, int64_t{1}, int64_t{3}}) {
    ASSERT_EQ(RunAndStopAfter(config, static_cast<int>(steps)).end, RunEnd::kStopped);
  }
  ASSERT_EQ(RunTraining(config).end, RunEnd::kFinished);
  ExpectSameToTheBit(unbroken, config, stop.last);
  ExpectSameToTheBit(unbroken, config, stop.best);
  const RunConfig layout =
      With(unbroken, "folder: '" + unbroken.folder() + "_layout' parallel { tensor: 2 pipeline: 2 }");
  ASSERT_TRUE(RunTraining(layout).status.ok());
  EXPECT_EQ(Checkpoints(layout), (std::vector<int64_t>{stop.last, stop.best}));
}

// Whoever names the run, and not one of its checkpoints, gets the best one.
TEST(EarlyStop, WhatHasBeenTrainedIsTheBest) {
  const RunConfig config = Overfitting("training { steps: 30 early_stop { evaluations: 15 } }");
  ASSERT_TRUE(RunTraining(config).status.ok());
  const std::string best = CheckpointPath(CheckpointsFolder(config), Expected(HeldOut(config, "held_out_loss"), 15, 1).best);
  const std::string last = CheckpointPath(CheckpointsFolder(config), 30);
  ASSERT_NE(best, last);
  const auto found = [](const std::string& path) {
    const auto place = FindTrained(FileSystem::Posix(), path);
    EXPECT_TRUE(place.ok()) << place.status();
    return place.ok() ? place->checkpoints : std::vector<std::string>();
  };
  EXPECT_THAT(found(config.folder()), ElementsAre(best, last));
  EXPECT_THAT(found(last), ElementsAre(last));
  const RunOutcome tuned =
      RunTraining(With(config, absl::StrCat("folder: '", config.folder(), "_tuned' training { steps: 2 checkpoint { ",
                                            "initial_weights: '", config.folder(), "' } }")));
  EXPECT_THAT(tuned.output, HasSubstr(best + " (step ")) << tuned.status;

  // A run that goes on without comparing no longer knows what is best.
  ASSERT_TRUE(RunTraining(With(config, "training { steps: 36 early_stop { evaluations: 0 } }")).status.ok());
  EXPECT_EQ(found(config.folder()).front(), CheckpointPath(CheckpointsFolder(config), 36));
}

TEST(EarlyStop, ByAccuracy) {
  const RunConfig config = Overfitting(
      "model { family: BERT vocabulary: 80 } task { first_symbol: 61 } training { early_stop { evaluations: 4 by: "
      "ACCURACY } }");
  const RunOutcome outcome = RunTraining(config);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  const std::map<int64_t, double> found = HeldOut(config, "held_out_accuracy");
  const Stop stop = Expected(found, 4, -1);
  EXPECT_EQ(found.rbegin()->first, stop.last);
  EXPECT_LT(stop.last, 80);
  EXPECT_THAT(outcome.output, HasSubstr(absl::StrCat("the held-out accuracy was best at step ", stop.best, " (")));
}

TEST(EarlyStop, NotUnlessAskedFor) {
  const RunConfig config = Overfitting("training { steps: 40 }");
  const RunOutcome outcome = RunTraining(config);
  EXPECT_THAT(outcome.output, Not(HasSubstr("early")));
  EXPECT_THAT(Checkpoints(config), ElementsAre(40));
}

}  // namespace
}  // namespace trefoil
