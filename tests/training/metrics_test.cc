#include "training/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "training/tensorboard.h"

namespace trefoil {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

StepMetrics Step(int64_t step) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.loss = 5.25;
  metrics.gradient_norm = 1.5;
  metrics.learning_rate = 3e-4;
  metrics.tokens = 1024;
  metrics.seconds = 0.5;
  metrics.model_flops = 5e8;
  metrics.peak_flops = 4e9;
  return metrics;
}

std::string EmptyFolder() {
  const std::string folder =
      testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

std::string Content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::vector<int64_t> Steps(const std::string& folder) {
  std::vector<int64_t> steps;
  std::ifstream file(folder + "/metrics.jsonl");
  for (std::string line; std::getline(file, line);) steps.push_back(nlohmann::json::parse(line)["step"]);
  return steps;
}

std::vector<std::string> EventFiles(const std::string& folder) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with("events.out.tfevents.")) paths.push_back(entry.path());
  }
  return paths;
}

std::string Hex(const std::string& bytes) {
  std::string hex;
  for (const unsigned char byte : bytes) {
    hex += "0123456789abcdef"[byte >> 4];
    hex += "0123456789abcdef"[byte & 15];
  }
  return hex;
}

TEST(MetricsJsonTest, ReadsBackExactly) {
  StepMetrics metrics = Step(3);
  metrics.loss = 0.1 + 0.2;
  metrics.held_out_loss = 1.0 / 3;
  const std::string text = MetricsJson(metrics);
  EXPECT_EQ(text.find('\n'), std::string::npos);
  const auto json = nlohmann::json::parse(text);
  EXPECT_EQ(json["step"], 3);
  EXPECT_EQ(json["loss"].get<double>(), 0.1 + 0.2);
  EXPECT_EQ(json["held_out_loss"].get<double>(), 1.0 / 3);
  EXPECT_EQ(json["gradient_norm"], 1.5);
  EXPECT_EQ(json["learning_rate"], 3e-4);
  EXPECT_EQ(json["tokens"], 1024);
  EXPECT_EQ(json["seconds"], 0.5);
  EXPECT_EQ(json["tokens_per_second"], 2048);
  EXPECT_EQ(json["model_flops_per_second"], 1e9);
  EXPECT_EQ(json["utilisation"], 0.25);
}

TEST(MetricsJsonTest, LeavesOutWhatIsUnknownAndWritesNullForNan) {
  StepMetrics metrics = Step(3);
  metrics.peak_flops = 0;
  metrics.loss = std::nan("");
  const auto json = nlohmann::json::parse(MetricsJson(metrics));
  EXPECT_FALSE(json.contains("utilisation"));
  EXPECT_FALSE(json.contains("held_out_loss"));
  EXPECT_TRUE(json["loss"].is_null());
}

TEST(MetricsWriterTest, AddsALineAndARecordPerStepThatOthersSeeAtOnce) {
  const std::string folder = EmptyFolder();
  auto writer = MetricsWriter::Open(folder, 0);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_THAT(EventFiles(folder), SizeIs(1));
  const std::string events = EventFiles(folder)[0];
  EXPECT_EQ(Content(events).size(), 40u);  // the version
  for (int64_t step = 1; step <= 3; ++step) {
    const size_t before = Content(events).size();
    ASSERT_TRUE((*writer)->Write(Step(step)).ok());
    EXPECT_EQ(Steps(folder).size(), static_cast<size_t>(step));
    const std::string record = Content(events).substr(before);
    for (const char* tag : {"loss", "gradient_norm", "learning_rate", "tokens_per_second", "utilisation"}) {
      EXPECT_THAT(record, HasSubstr(tag));
    }
  }
  EXPECT_THAT(Steps(folder), ElementsAre(1, 2, 3));
}

TEST(MetricsWriterTest, AResumedRunDropsTheStepsThatItDoesAgain) {
  const std::string folder = EmptyFolder();
  {
    auto writer = MetricsWriter::Open(folder, 0);
    for (int64_t step = 1; step <= 12; ++step) ASSERT_TRUE((*writer)->Write(Step(step)).ok());
  }
  std::ofstream(folder + "/metrics.jsonl", std::ios::app) << "{\"step\":1,\"lo";  // killed while writing
  auto writer = MetricsWriter::Open(folder, 10);
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_THAT(Steps(folder), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
  ASSERT_TRUE((*writer)->Write(Step(11)).ok());
  EXPECT_THAT(Steps(folder), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11));
  EXPECT_FALSE(std::filesystem::exists(folder + "/metrics.jsonl.partial"));
}

TEST(MetricsWriterTest, ANewRunStartsAfresh) {
  const std::string folder = EmptyFolder();
  std::ofstream(folder + "/metrics.jsonl") << MetricsJson(Step(1)) << "\n";
  ASSERT_TRUE(MetricsWriter::Open(folder, 0).ok());
  EXPECT_THAT(Steps(folder), ElementsAre());
}

TEST(MetricsWriterTest, AFolderThatCannotBeWrittenIsNamed) {
  const auto writer = MetricsWriter::Open("/no/such/folder", 0);
  EXPECT_THAT(writer.status().message(), HasSubstr("/no/such/folder/metrics.jsonl: cannot open for writing: No such"));
}

// The bytes that TensorBoard's own writer makes.
TEST(TensorBoardTest, RecordsHaveTheGoldenBytes) {
  EXPECT_EQ(Hex(TensorBoardVersion(1700000000.0)),
            "1800000000000000a37f4b220900000040fc54d9411a0d627261696e2e4576656e743a32eced8f9d");
  EXPECT_EQ(Hex(TensorBoardScalars(1700000000.0, 5, {{"loss", 2.5}})),
            "1a00000000000000129bd82d0900000040fc54d94110052a0d0a0b0a046c6f7373150000204095d4ad7b");
}

TEST(TensorBoardTest, StepsBeyondOneVarintByte) {
  // Step 300 is ac 02.
  EXPECT_THAT(Hex(TensorBoardStart(1700000000.0, 300)), HasSubstr("0900000040fc54d94110ac023a020801"));
}

TEST(ProgressMeterTest, ShowsWhatAPersonWatches) {
  ProgressMeter meter(500);
  EXPECT_EQ(meter.Line(Step(40)),
            "step  40/500  loss 5.2500  norm 1.500  lr 3.00e-04  2048 tokens/s  1.00 GFLOP/s  MFU 25.0%  ETA 0:03:50");
  StepMetrics metrics = Step(41);
  metrics.peak_flops = 0;
  metrics.model_flops = 61.7e12;
  metrics.held_out_loss = 4.5;
  EXPECT_EQ(meter.Line(metrics),
            "step  41/500  loss 5.2500  norm 1.500  lr 3.00e-04  2048 tokens/s  123 TFLOP/s  ETA 0:03:50  "
            "held-out 4.5000");
}

TEST(ProgressMeterTest, TimeLeftFollowsTheStepsTime) {
  ProgressMeter meter(10'000);
  std::string line;
  for (int64_t step = 1; step <= 5000; ++step) {
    StepMetrics metrics = Step(step);
    metrics.seconds = step == 1 ? 100 : 2;
    line = meter.Line(metrics);
  }
  EXPECT_THAT(line, HasSubstr("ETA 2:46:40"));
  EXPECT_THAT(meter.Line(Step(10'000)), HasSubstr("ETA 0:00:00"));
}

}  // namespace
}  // namespace trefoil
