#include "training/log/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/runtime/files/fault_file_system.h"
#include "training/log/progress_meter.h"
#include "training/log/tensorboard.h"

namespace trefoil {
namespace {

using testing::AllOf;
using testing::Contains;
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
  metrics.peak = {.vendor = 0, .measured = 4e9};
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

// An open writer, and what it says.
struct Writer {
  explicit Writer(const std::string& folder, int64_t resumed_step = 0, FileSystem& fs = FileSystem::Posix()) {
    auto opened = MetricsWriter::Open(fs, folder, resumed_step, said);
    EXPECT_TRUE(opened.ok()) << opened.status();
    if (opened.ok()) writer = *std::move(opened);
  }
  MetricsWriter* operator->() { return writer.get(); }

  std::ostringstream said;
  std::unique_ptr<MetricsWriter> writer;
};

// Bytes of the file that are whole records, and how many records.
std::pair<size_t, int> WholeRecords(const std::string& events) {
  size_t at = 0;
  int records = 0;
  while (at + 12 <= events.size()) {
    uint64_t length;
    std::memcpy(&length, events.data() + at, sizeof(length));
    if (length > events.size() || at + 16 + length > events.size()) break;
    at += 16 + length;
    ++records;
  }
  return {at, records};
}

TEST(MetricsJsonTest, ReadsBackExactly) {
  StepMetrics metrics = Step(3);
  metrics.time = 1700000000.25;
  metrics.loss = 0.1 + 0.2;
  metrics.held_out_loss = 1.0 / 3;
  metrics.total_samples = 24;
  metrics.total_tokens = 3072;
  metrics.epoch = 1.5;
  metrics.communication_seconds = 0.125;
  metrics.ranks = {.slowest = 2,
                   .slowest_host = "node\"7",
                   .slowest_work_seconds = 0.375,
                   .median_work_seconds = 0.25,
                   .data_seconds = 0.0625,
                   .reserved_bytes = 1 << 20,
                   .resident_bytes = 1 << 25};
  const std::string text = MetricsJson(metrics);
  EXPECT_EQ(text.find('\n'), std::string::npos);
  const auto json = nlohmann::json::parse(text);
  EXPECT_EQ(json["step"], 3);
  EXPECT_EQ(json["time"], "2023-11-14T22:13:20.250Z");
  EXPECT_EQ(json["loss"].get<double>(), 0.1 + 0.2);
  EXPECT_EQ(json["held_out_loss"].get<double>(), 1.0 / 3);
  EXPECT_EQ(json["gradient_norm"], 1.5);
  EXPECT_EQ(json["learning_rate"], 3e-4);
  EXPECT_EQ(json["tokens"], 1024);
  EXPECT_EQ(json["total_samples"], 24);
  EXPECT_EQ(json["total_tokens"], 3072);
  EXPECT_EQ(json["epoch"], 1.5);
  EXPECT_EQ(json["seconds"], 0.5);
  EXPECT_EQ(json["communication_seconds"], 0.125);
  EXPECT_EQ(json["data_seconds"], 0.0625);
  EXPECT_EQ(json["tokens_per_second"], 2048);
  EXPECT_EQ(json["model_flops_per_second"], 1e9);
  EXPECT_EQ(json["mfu"], 0.25);
  EXPECT_EQ(json["mfu_of"], "measured");
  EXPECT_EQ(json["measured_mfu"], 0.25);
  EXPECT_EQ(json["slowest_rank"], 2);
  EXPECT_EQ(json["slowest_host"], "node\"7");
  EXPECT_EQ(json["slowest_work_seconds"], 0.375);
  EXPECT_EQ(json["median_work_seconds"], 0.25);
  EXPECT_EQ(json["reserved_bytes"], 1 << 20);
  EXPECT_EQ(json["resident_bytes"], 1 << 25);
  EXPECT_FALSE(json.contains("skipped"));
}

TEST(MetricsJsonTest, LeavesOutWhatIsUnknownAndWritesNullForNan) {
  StepMetrics metrics = Step(3);
  metrics.peak = {};
  metrics.loss = std::nan("");
  metrics.skipped = true;
  const auto json = nlohmann::json::parse(MetricsJson(metrics));
  for (const char* name : {"mfu", "mfu_of", "measured_mfu", "held_out_loss"}) EXPECT_FALSE(json.contains(name)) << name;
  EXPECT_TRUE(json["loss"].is_null());
  EXPECT_EQ(json["skipped"], true);
}

TEST(MetricsJsonTest, MfuIsOfTheVendorsPeakWhereItIsKnown) {
  StepMetrics metrics = Step(3);
  metrics.peak.vendor = 5e9;
  const auto json = nlohmann::json::parse(MetricsJson(metrics));
  EXPECT_EQ(json["mfu"], 0.2);
  EXPECT_EQ(json["mfu_of"], "vendor");
  EXPECT_EQ(json["measured_mfu"], 0.25);
}

TEST(MetricsJsonTest, EveryFieldIsInTheDocs) {
  StepMetrics metrics = Step(3);
  metrics.held_out_loss = 1;
  metrics.skipped = true;
  const std::string page = Content("docs/metrics.md");
  const auto json = nlohmann::json::parse(MetricsJson(metrics));
  for (const auto& [name, value] : json.items()) {
    EXPECT_NE(page.find("| `" + name + "` |"), std::string::npos) << name;
  }
}

TEST(MetricsWriterTest, AddsALineAndARecordPerStepThatOthersSeeAtOnce) {
  const std::string folder = EmptyFolder();
  Writer writer(folder);
  ASSERT_THAT(EventFiles(folder), SizeIs(1));
  const std::string events = EventFiles(folder)[0];
  EXPECT_EQ(WholeRecords(Content(events)), std::pair(Content(events).size(), 2)) << "the version and the start";
  for (int64_t step = 1; step <= 3; ++step) {
    const size_t before = Content(events).size();
    writer->Write(Step(step));
    EXPECT_EQ(Steps(folder).size(), static_cast<size_t>(step));
    const std::string record = Content(events).substr(before);
    for (const char* tag : {"loss", "gradient_norm", "learning_rate", "tokens_per_second", "mfu", "slowest_rank",
                            "communication_seconds", "epoch"}) {
      EXPECT_THAT(record, HasSubstr(tag));
    }
  }
  EXPECT_THAT(Steps(folder), ElementsAre(1, 2, 3));
  EXPECT_EQ(writer.said.str(), "");
}

TEST(MetricsWriterTest, AResumedRunDropsTheStepsThatItDoesAgain) {
  const std::string folder = EmptyFolder();
  {
    Writer writer(folder);
    for (int64_t step = 1; step <= 12; ++step) writer->Write(Step(step));
  }
  std::ofstream(folder + "/metrics.jsonl", std::ios::app) << "{\"step\":1,\"lo";  // killed while writing
  std::ifstream follower(folder + "/metrics.jsonl");
  Writer writer(folder, 10);
  EXPECT_THAT(Steps(folder), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
  writer->Write(Step(11));
  EXPECT_THAT(Steps(folder), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11));
  // Whoever had the file open follows it still: it is the same file.
  follower.seekg(0, std::ios::end);
  EXPECT_EQ(static_cast<size_t>(follower.tellg()), Content(folder + "/metrics.jsonl").size());
  EXPECT_EQ(writer.said.str(), "");
}

// Cut off after any byte, and with more lines than are read at once.
TEST(MetricsWriterTest, AResumedRunFindsItsPlaceInWhateverACrashLeft) {
  const std::string folder = EmptyFolder();
  std::string lines;
  for (int64_t step = 1; step <= 3; ++step) lines += MetricsJson(Step(step)) + "\n";
  for (size_t size = 0; size <= lines.size(); size += 7) {
    std::ofstream(folder + "/metrics.jsonl") << lines.substr(0, size);
    Writer writer(folder, 2);
    writer->Write(Step(3));
    const std::string left = lines.substr(0, size);
    const int64_t whole = std::min<int64_t>(2, std::count(left.begin(), left.end(), '\n'));
    std::vector<int64_t> expected;
    for (int64_t step = 1; step <= whole; ++step) expected.push_back(step);
    expected.push_back(3);
    EXPECT_EQ(Steps(folder), expected) << size;
  }
  {
    std::ofstream file(folder + "/metrics.jsonl");
    for (int64_t step = 1; step <= 6000; ++step) file << MetricsJson(Step(step)) << "\n";
  }
  ASSERT_GT(std::filesystem::file_size(folder + "/metrics.jsonl"), size_t{2} << 20);
  const Writer writer(folder, 5500);
  EXPECT_THAT(Steps(folder), SizeIs(5500));
}

TEST(MetricsWriterTest, ANewRunKeepsTheLinesThatItFinds) {
  const std::string folder = EmptyFolder();
  for (int64_t start = 1; start <= 3; ++start) {
    Writer writer(folder);
    const std::string note = "Note: " + folder + "/metrics.jsonl is of a start that left no checkpoint; it is kept as " +
                             "metrics." + std::to_string(start - 1) + ".jsonl.\n";
    EXPECT_EQ(writer.said.str(), start == 1 ? "" : note);
    for (int64_t step = 1; step <= start; ++step) writer->Write(Step(step));
  }
  EXPECT_THAT(Steps(folder), ElementsAre(1, 2, 3));
  EXPECT_EQ(Content(folder + "/metrics.1.jsonl"), MetricsJson(Step(1)) + "\n");
  EXPECT_EQ(Content(folder + "/metrics.2.jsonl"), MetricsJson(Step(1)) + "\n" + MetricsJson(Step(2)) + "\n");
}

TEST(MetricsWriterTest, AFolderThatCannotBeWrittenIsNamed) {
  const auto writer = MetricsWriter::Open(FileSystem::Posix(), "/no/such/folder", 0, std::cout);
  EXPECT_EQ(writer.status().message(), "/no/such/folder/metrics.jsonl: no such file or directory");
}

// At each moment the disk fills up, and later has room again.
TEST(MetricsWriterTest, AFullDiskCostsLinesAndNeverHalfOfOne) {
  const std::string folder = EmptyFolder();
  const auto line = static_cast<int64_t>(MetricsJson(Step(1)).size());
  for (int64_t room = 60; room < 4 * line; room += 31) {
    SCOPED_TRACE(room);
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    FaultFileSystem disk(FileSystem::Posix());
    disk.FillAfter(room + 200);
    Writer writer(folder, 0, disk);
    for (int64_t step = 1; step <= 25; ++step) {
      if (step == 22) disk.FillAfter(1 << 20);
      writer->Write(Step(step));
      // Whatever is there is whole, for all who read.
      const std::vector<int64_t> steps = Steps(folder);
      if (step > 4) {
        EXPECT_EQ(!steps.empty() && steps.back() == step, step >= 22) << step;
      }
      const std::string events = Content(EventFiles(folder)[0]);
      EXPECT_EQ(WholeRecords(events).first, events.size()) << step;
    }
    EXPECT_THAT(Steps(folder), AllOf(Contains(22), Contains(25)));
    const std::string said = writer.said.str();
    EXPECT_THAT(said, HasSubstr("could not be written: " + folder + "/"));
    EXPECT_THAT(said, HasSubstr(": no space left on device. Training goes on.\n"));
    EXPECT_THAT(said, HasSubstr("; the metrics of 10 steps are lost so far.\n"));
    EXPECT_THAT(said, HasSubstr("Metrics are written again, from step 22 on; those of "));
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 3) << said;
  }
}

TEST(MetricsWriterTest, AFolderThatIsGoneIsWrittenToAgainWhenItIsBack) {
  const std::string folder = EmptyFolder();
  Writer writer(folder);
  writer->Write(Step(1));
  std::filesystem::rename(folder, folder + ".away");
  writer->Write(Step(2));
  EXPECT_EQ(writer.said.str(), "WARNING: the metrics of step 2 could not be written: " + folder +
                                   "/metrics.jsonl: no such file or directory. Training goes on.\n");
  std::filesystem::create_directories(folder);
  writer->Write(Step(3));
  EXPECT_THAT(Steps(folder), ElementsAre(3));
  ASSERT_THAT(EventFiles(folder), SizeIs(1));
  const std::string events = Content(EventFiles(folder)[0]);
  EXPECT_EQ(WholeRecords(events), std::pair(events.size(), 3)) << "the version, the start, the step";
  EXPECT_THAT(writer.said.str(), HasSubstr("Metrics are written again, from step 3 on; those of step 2 are lost."));
  std::filesystem::remove_all(folder + ".away");
}

// The lines of all steps of a checkpoint are there when it is, whatever happens then.
TEST(MetricsWriterTest, APowerCutLeavesWhatWasFlushed) {
  const std::string folder = EmptyFolder();
  FaultFileSystem disk(FileSystem::Posix());
  Writer writer(folder, 0, disk);
  writer->Write(Step(1));
  writer->Write(Step(2));
  writer->Flush();
  writer->Write(Step(3));
  disk.CrashAt(disk.calls(), FaultFileSystem::Crash::kPowerCut);
  writer->Write(Step(4));
  EXPECT_THAT(Steps(folder), ElementsAre(1, 2));
  EXPECT_EQ(WholeRecords(Content(EventFiles(folder)[0])).second, 4);
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

std::string LineOf(ProgressMeter& meter, const StepMetrics& metrics) {
  meter.Stepped(metrics.step, metrics.seconds);
  return meter.Line(metrics);
}

TEST(ProgressMeterTest, ShowsWhatAPersonWatches) {
  ProgressMeter meter({.steps = 500});
  EXPECT_EQ(LineOf(meter, Step(40)),
            "step  40/500  loss 5.2500  norm 1.500  lr 3.00e-04  2048 tokens/s  1.00 GFLOP/s  MFU 25.0%  ETA 0:03:50");
  StepMetrics metrics = Step(41);
  metrics.peak = {};
  metrics.model_flops = 61.7e12;
  metrics.held_out_loss = 4.5;
  EXPECT_EQ(LineOf(meter, metrics),
            "step  41/500  loss 5.2500  norm 1.500  lr 3.00e-04  2048 tokens/s  123 TFLOP/s  ETA 0:03:50  "
            "held-out 4.5000");
}

TEST(ProgressMeterTest, CountsImages) {
  ProgressMeter meter({.steps = 500, .images = true});
  StepMetrics metrics = Step(40);
  metrics.samples = 16;
  EXPECT_THAT(LineOf(meter, metrics), HasSubstr("  lr 3.00e-04  32.0 images/s  1.00 GFLOP/s"));
}

TEST(ProgressMeterTest, ShowsWaitingThatIsNotable) {
  ProgressMeter meter({.steps = 500});
  StepMetrics metrics = Step(40);
  metrics.communication_seconds = 0.04;
  metrics.ranks.data_seconds = 0.04;
  EXPECT_EQ(LineOf(meter, metrics), LineOf(meter, Step(40)));
  metrics.communication_seconds = 0.17;
  metrics.ranks.data_seconds = 0.06;
  EXPECT_THAT(LineOf(meter, metrics), HasSubstr("  MFU 25.0%  data 12%  communication 34%  ETA "));
}

TEST(ProgressMeterTest, ShowsBothPeaksAndSaysWhyAShareIsAboveAll) {
  ProgressMeter meter({.steps = 500});
  StepMetrics metrics = Step(40);
  metrics.peak.vendor = 5e9;
  EXPECT_THAT(LineOf(meter, metrics), HasSubstr("  MFU 20.0% (25.0% of measured)  ETA"));
  metrics.peak.measured = 0;
  EXPECT_THAT(LineOf(meter, metrics), HasSubstr("  MFU 20.0%  ETA"));
  metrics.peak = {.vendor = 0, .measured = 8e8};
  EXPECT_THAT(LineOf(meter, metrics), HasSubstr("  MFU 125.0% (over 100%: peak measured under load)  ETA"));
  metrics.peak = {.vendor = 8e8, .measured = 5e8};
  EXPECT_THAT(LineOf(meter, metrics),
              HasSubstr("  MFU 125.0% (200.0% of measured) (over 100%: above the data sheet)  ETA"));
}

TEST(ProgressMeterTest, SaysThatAStepWasSkipped) {
  ProgressMeter meter({.steps = 500});
  StepMetrics metrics = Step(40);
  metrics.skipped = true;
  metrics.loss = std::nan("");
  EXPECT_THAT(LineOf(meter, metrics), HasSubstr("step  40/500  skipped (not finite)  lr 3.00e-04  2048 tokens/s"));
}

TEST(ProgressMeterTest, TimeLeftFollowsTheStepsTime) {
  ProgressMeter meter({.steps = 10'000});
  std::string line;
  for (int64_t step = 1; step <= 5000; ++step) {
    StepMetrics metrics = Step(step);
    metrics.seconds = step == 1 ? 100 : 2;
    line = LineOf(meter, metrics);
    if (step == 2) {
      EXPECT_THAT(line, HasSubstr("ETA 5:33:16")) << "the first step counts no more";
    }
  }
  EXPECT_THAT(line, HasSubstr("ETA 2:46:40"));
  EXPECT_THAT(LineOf(meter, Step(10'000)), HasSubstr("ETA 0:00:00"));
}

TEST(ProgressMeterTest, TimeLeftCountsEvaluationsAndSaves) {
  ProgressMeter meter({.steps = 100, .evaluates = true, .evaluate_every = 20, .save_every = 30});
  for (int64_t step = 1; step <= 20; ++step) meter.Stepped(step, 1);
  EXPECT_EQ(meter.SecondsLeft(), 80);
  meter.Evaluated(10);
  EXPECT_EQ(meter.SecondsLeft(), 80 + 4 * 10) << "after 40, 60, 80, 100";
  for (int64_t step = 21; step <= 30; ++step) meter.Stepped(step, 1);
  meter.Saved(100);
  meter.Saved(300);
  meter.Stepped(31, 1);
  EXPECT_EQ(meter.SecondsLeft(), 69 + 4 * 10 + 3 * 200) << "saves after 60, 90, 100";
  meter.Stepped(60, 1);
  EXPECT_EQ(meter.SecondsLeft(), 40 + 2 * 10 + 3 * 200) << "the evaluation of step 60 is done, the save is not";
  meter.Stepped(100, 1);
  EXPECT_EQ(meter.SecondsLeft(), 200);
}

TEST(ProgressMeterTest, SaysHowLongTheRunIs) {
  const auto length = [](int64_t steps, double seconds) {
    ProgressMeter meter({.steps = steps + 2});
    meter.Stepped(1, 1000);
    meter.Stepped(2, seconds);
    return meter.Length();
  };
  EXPECT_EQ(length(600'000, 0.054), "about 9 hours: 600000 steps of 0.054 s");
  EXPECT_EQ(length(597, 0.3333), "about 3 minutes: 597 steps of 0.333 s");
  EXPECT_EQ(length(20, 1), "about 20 seconds: 20 steps of 1 s");
  EXPECT_EQ(length(100'000, 94), "about 109 days: 100000 steps of 94 s");
}

}  // namespace
}  // namespace trefoil
