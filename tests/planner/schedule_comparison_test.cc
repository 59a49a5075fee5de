// The schedules of one mesh beside each other, on a described cluster.
#include "planner/schedule_comparison.h"

#include <gtest/gtest.h>

#include <map>
#include <utility>

#include "launcher/config/config.h"
#include "training/config/validate.h"

namespace trefoil {
namespace {

constexpr int kStages = 4;

RunConfig Config() {
  RunConfig config;
  ModelConfig& model = *config.mutable_model();
  model.set_family(ModelConfig::GPT);
  model.set_heads(32);
  model.set_hidden(4096);
  model.set_layers(16);
  model.set_vocabulary(51200);
  model.set_sequence_length(2048);
  config.mutable_parallel()->set_pipeline(kStages);
  config.mutable_training()->set_global_batch(16);
  config.mutable_training()->set_micro_batch(1);
  config.mutable_training()->set_precision(TrainingConfig::BF16);
  config.mutable_training()->set_steps(1);
  config.set_folder("none");
  config.mutable_data()->add_train("none");
  FillDefaults(&config, kStages, {.pays = true});
  EXPECT_EQ(Violations(config, kStages), std::vector<std::string>());
  return config;
}

Cluster Selene() {
  const absl::StatusOr<Cluster> cluster = ReadCluster(FileSystem::Posix(), "selene_a100");
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  return *cluster;
}

TEST(CompareSchedulesTest, SaysWhatEachTakesAndLoses) {
  Planner planner(Selene());
  const std::vector<ScheduleRow> rows = CompareSchedules(Config(), kStages, planner);
  std::map<std::pair<ParallelConfig::Schedule, int>, ScheduleRow> of;
  for (size_t i = 0; i < rows.size(); ++i) {
    const ParallelConfig& parallel = rows[i].config.parallel();
    EXPECT_TRUE(of.emplace(std::pair(parallel.schedule(), parallel.chunks()), rows[i]).second);
    EXPECT_TRUE(rows[i].fits);
    EXPECT_GE(rows[i].seconds, rows[i > 0 ? i - 1 : 0].seconds);
  }
  // Up to as many chunks as a stage has blocks.
  EXPECT_EQ(of.size(), 2u + 3u + 2u + 2u + 2u);
  const auto row = [&](ParallelConfig::Schedule schedule, int chunks) { return of.at({schedule, chunks}); };
  const ScheduleRow one = row(ParallelConfig::ONE_F_ONE_B, 1), h1 = row(ParallelConfig::ZB_H1, 1),
                    h2 = row(ParallelConfig::ZB_H2, 1), v = row(ParallelConfig::ZB_V, 2);
  EXPECT_LT(h1.idle_within, one.idle_within);
  EXPECT_LT(h2.idle_within, h1.idle_within);
  EXPECT_LT(one.barrier, 0.001 * one.seconds);
  EXPECT_GT(h2.barrier, 0.01 * h2.seconds) << "what it gains within it loses between the steps";
  EXPECT_GT(h2.reserved, h1.reserved);
  EXPECT_LT(h1.seconds, one.seconds);
  EXPECT_LT(v.seconds, h1.seconds);
  // By the cluster's times, which are not quite the step's: a first and a last micro-batch take others.
  EXPECT_LT(row(ParallelConfig::AUTO, 1).seconds, 1.005 * h1.seconds);
  EXPECT_LT(row(ParallelConfig::AUTO, 2).seconds, 1.005 * v.seconds);
}

// The head makes the last virtual stage's forward longer; the fold's middle ones are alike.
TEST(CompareSchedulesTest, TimesAreOfEveryVirtualStage) {
  RunConfig config = Config();
  config.mutable_parallel()->set_schedule(ParallelConfig::AUTO);
  config.mutable_parallel()->set_chunks(2);
  config.mutable_parallel()->mutable_schedule_search()->set_in_flight(3);
  Planner planner(Selene());
  const ScheduleSearchConfig times = planner.SearchTimes(config, kStages);
  ASSERT_EQ(times.forward_size(), 2 * kStages);
  ASSERT_EQ(times.backward_input_size(), 2 * kStages);
  ASSERT_EQ(times.backward_weight_size(), 2 * kStages);
  EXPECT_GT(times.forward(7), 1.1 * times.forward(3));
  EXPECT_NEAR(times.forward(3), times.forward(4), 1e-3 * times.forward(3));
  for (int v = 0; v < 2 * kStages; ++v) {
    EXPECT_GT(times.backward_input(v), times.forward(v)) << "attention's is longer";
    EXPECT_GT(times.backward_weight(v), 0);
  }
  EXPECT_GT(times.message(), 0);
  EXPECT_LT(times.message(), times.forward(3));
  EXPECT_EQ(times.in_flight(), 3);
  *config.mutable_parallel()->mutable_schedule_search() = times;
  EXPECT_EQ(Violations(config, kStages), std::vector<std::string>());
}

}  // namespace
}  // namespace trefoil
