#include "training/optimizer/learning_rate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace trefoil {
namespace {

// Peak 1 and final share a power of two, so that expected values are exact in float.
OptimizerConfig Config(OptimizerConfig::Schedule schedule, int warmup) {
  OptimizerConfig config;
  config.set_schedule(schedule);
  config.set_learning_rate(1.0f);
  config.set_final_share(0.125f);
  config.set_warmup_steps(warmup);
  config.set_decay_share(0.25f);
  return config;
}

TEST(LearningRateTest, WarmsUpLinearlyFromZeroToThePeak) {
  for (auto schedule : {OptimizerConfig::COSINE, OptimizerConfig::LINEAR, OptimizerConfig::WSD,
                        OptimizerConfig::CONSTANT, OptimizerConfig::INVERSE_SQRT}) {
    const OptimizerConfig config = Config(schedule, 4);
    EXPECT_DOUBLE_EQ(LearningRate(config, 100, 1), 0.25);
    EXPECT_DOUBLE_EQ(LearningRate(config, 100, 2), 0.5);
    EXPECT_DOUBLE_EQ(LearningRate(config, 100, 3), 0.75);
    EXPECT_DOUBLE_EQ(LearningRate(config, 100, 4), 1.0);
  }
}

// Expected values by hand: cos(pi/3) = 1/2, cos(pi/2) = 0, cos(2 pi/3) = -1/2.
TEST(LearningRateTest, CosineFollowsTheFormula) {
  const OptimizerConfig config = Config(OptimizerConfig::COSINE, 4);
  EXPECT_DOUBLE_EQ(LearningRate(config, 16, 8), 0.125 + 0.875 * 0.75);
  EXPECT_DOUBLE_EQ(LearningRate(config, 16, 10), 0.125 + 0.875 * 0.5);
  EXPECT_DOUBLE_EQ(LearningRate(config, 16, 12), 0.125 + 0.875 * 0.25);
  EXPECT_DOUBLE_EQ(LearningRate(config, 16, 16), 0.125);
}

TEST(LearningRateTest, LinearFallsByEqualSteps) {
  const OptimizerConfig config = Config(OptimizerConfig::LINEAR, 2);
  EXPECT_DOUBLE_EQ(LearningRate(config, 9, 3), 0.875);
  EXPECT_DOUBLE_EQ(LearningRate(config, 9, 4), 0.75);
  EXPECT_DOUBLE_EQ(LearningRate(config, 9, 8), 0.25);
  EXPECT_DOUBLE_EQ(LearningRate(config, 9, 9), 0.125);
}

// 28 steps, the last quarter (7) decays: 0.125 less in each.
TEST(LearningRateTest, WsdHoldsThePeakThenDecaysOverItsShare) {
  const OptimizerConfig config = Config(OptimizerConfig::WSD, 3);
  EXPECT_DOUBLE_EQ(LearningRate(config, 28, 4), 1.0);
  EXPECT_DOUBLE_EQ(LearningRate(config, 28, 21), 1.0);
  EXPECT_DOUBLE_EQ(LearningRate(config, 28, 22), 0.875);
  EXPECT_DOUBLE_EQ(LearningRate(config, 28, 25), 0.5);
  EXPECT_DOUBLE_EQ(LearningRate(config, 28, 28), 0.125);
}

TEST(LearningRateTest, WsdDecayGivesWayToTheWarmup) {
  OptimizerConfig config = Config(OptimizerConfig::WSD, 3);
  config.set_decay_share(1.0f);
  EXPECT_DOUBLE_EQ(LearningRate(config, 10, 3), 1.0);
  EXPECT_DOUBLE_EQ(LearningRate(config, 10, 4), 0.875);
  EXPECT_DOUBLE_EQ(LearningRate(config, 10, 10), 0.125);
}

TEST(LearningRateTest, WsdWithAVanishingShareStillEndsAtTheFinalValue) {
  OptimizerConfig config = Config(OptimizerConfig::WSD, 0);
  config.set_decay_share(0.0f);
  EXPECT_DOUBLE_EQ(LearningRate(config, 10, 9), 1.0);
  EXPECT_DOUBLE_EQ(LearningRate(config, 10, 10), 0.125);
}

TEST(LearningRateTest, ConstantStaysAtThePeak) {
  const OptimizerConfig config = Config(OptimizerConfig::CONSTANT, 2);
  EXPECT_DOUBLE_EQ(LearningRate(config, 10, 3), 1.0);
  EXPECT_DOUBLE_EQ(LearningRate(config, 10, 10), 1.0);
  EXPECT_DOUBLE_EQ(LearningRate(config, 10, 50), 1.0);
}

TEST(LearningRateTest, InverseSquareRootFallsFromTheEndOfTheWarmup) {
  const OptimizerConfig config = Config(OptimizerConfig::INVERSE_SQRT, 4);
  EXPECT_DOUBLE_EQ(LearningRate(config, 100, 2), 0.5);
  EXPECT_DOUBLE_EQ(LearningRate(config, 100, 4), 1.0);
  EXPECT_DOUBLE_EQ(LearningRate(config, 100, 5), std::sqrt(0.8));
  EXPECT_DOUBLE_EQ(LearningRate(config, 100, 16), 0.5);
  EXPECT_DOUBLE_EQ(LearningRate(config, 100, 64), 0.25);
  // Whatever the length of the run, and after its end.
  EXPECT_DOUBLE_EQ(LearningRate(config, 16, 16), 0.5);
  EXPECT_DOUBLE_EQ(LearningRate(config, 10, 64), 0.25);
}

// Vaswani et al. 2017, eq. 3, with their base model's width and warm-up.
TEST(LearningRateTest, InverseSquareRootIsThePapersFormula) {
  OptimizerConfig config = Config(OptimizerConfig::INVERSE_SQRT, 4000);
  const double width = 512, warmup = 4000;
  config.set_learning_rate(static_cast<float>(1 / std::sqrt(width * warmup)));
  for (const int64_t step : {1, 100, 3999, 4000, 4001, 20'000, 100'000}) {
    const double s = static_cast<double>(step);
    const double paper = std::pow(width, -0.5) * std::min(std::pow(s, -0.5), s * std::pow(warmup, -1.5));
    EXPECT_NEAR(LearningRate(config, 100'000, step), paper, 1e-7 * paper) << step;
  }
}

TEST(LearningRateTest, NoWarmupStartsTheDecayAtOnce) {
  const OptimizerConfig config = Config(OptimizerConfig::LINEAR, 0);
  EXPECT_DOUBLE_EQ(LearningRate(config, 7, 1), 0.875);
  EXPECT_DOUBLE_EQ(LearningRate(Config(OptimizerConfig::COSINE, 0), 1, 1), 0.125);
}

TEST(LearningRateTest, WarmupAsLongAsTheRunOrLongerNeverDecaysWithinIt) {
  for (auto schedule : {OptimizerConfig::COSINE, OptimizerConfig::LINEAR, OptimizerConfig::WSD}) {
    EXPECT_DOUBLE_EQ(LearningRate(Config(schedule, 8), 8, 8), 1.0);
    EXPECT_DOUBLE_EQ(LearningRate(Config(schedule, 16), 8, 8), 0.5);
    EXPECT_DOUBLE_EQ(LearningRate(Config(schedule, 16), 8, 9), 0.125);
  }
}

TEST(LearningRateTest, StepsBeyondTheEndKeepTheFinalValue) {
  for (auto schedule : {OptimizerConfig::COSINE, OptimizerConfig::LINEAR, OptimizerConfig::WSD}) {
    EXPECT_DOUBLE_EQ(LearningRate(Config(schedule, 2), 10, 11), 0.125);
    EXPECT_DOUBLE_EQ(LearningRate(Config(schedule, 2), 10, 1'000'000'000'000), 0.125);
  }
}

// Float arithmetic would lose single steps here.
TEST(LearningRateTest, KeepsItsPrecisionInLongRuns) {
  const OptimizerConfig config = Config(OptimizerConfig::LINEAR, 0);
  const int64_t steps = 100'000'000;
  EXPECT_NEAR(LearningRate(config, steps, 50'000'000) - LearningRate(config, steps, 50'000'001), 0.875 / steps, 1e-15);
}

}  // namespace
}  // namespace trefoil
