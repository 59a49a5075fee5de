#include "data/prefetcher.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <mutex>
#include <vector>

namespace trefoil {
namespace {

using namespace std::chrono_literals;

// Threads of this process.
int64_t Threads() {
  int64_t threads = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) ++threads;
  return threads;
}

// A source of batches whose first input is the sample's number; it remembers what it was asked for.
class Source {
 public:
  absl::StatusOr<Batch> Read(int64_t first, int64_t count) {
    std::this_thread::sleep_for(delay.load());
    const std::lock_guard lock(mutex_);
    asked_.push_back({first, count});
    if (first == bad) return absl::DataLossError("bad disk at " + std::to_string(first));
    const HostTensor inputs(std::vector{static_cast<int32_t>(first)}, {1, 1});
    return Batch{.samples = count, .length = 1, .first_sample = first, .inputs = inputs};
  }
  Prefetcher::Read Function() {
    return [this](int64_t first, int64_t count) { return Read(first, count); };
  }
  std::vector<std::pair<int64_t, int64_t>> asked() {
    const std::lock_guard lock(mutex_);
    return asked_;
  }
  // Waits until `count` batches were read.
  bool Until(size_t count) {
    for (int i = 0; i < 5000 && asked().size() < count; ++i) std::this_thread::sleep_for(1ms);
    return asked().size() >= count;
  }

  std::atomic<std::chrono::milliseconds> delay{0ms};
  std::atomic<int64_t> bad = -1;

 private:
  std::mutex mutex_;
  std::vector<std::pair<int64_t, int64_t>> asked_;
};

// Steps of 3 batches of 2 samples, 12 samples apart: the second of two data ranks with a global batch of 12.
constexpr ReadPlan kPlan = {.count = 2, .batches = 3, .stride = 12, .end = 48};

TEST(Prefetcher, ReadsTheNextStepAndNoFurther) {
  Source source;
  Prefetcher prefetcher(source.Function(), kPlan);
  std::this_thread::sleep_for(20ms);
  EXPECT_TRUE(source.asked().empty()) << "nobody has said where the run begins";
  std::vector<std::pair<int64_t, int64_t>> expected;
  for (int64_t step = 0; step < 4; ++step) {
    for (int64_t i = 0; i < 3; ++i) {
      const int64_t first = 12 * step + 6 + 2 * i;
      const auto batch = prefetcher.Get(first, 2);
      ASSERT_TRUE(batch.ok()) << batch.status();
      EXPECT_EQ(batch->first_sample, first);
      EXPECT_EQ(batch->inputs.values<int32_t>()[0], first);
      expected.push_back({first, 2});
    }
    // While the step computes: the whole next one, if the run has one.
    const size_t ahead = step < 3 ? 3 : 0;
    EXPECT_TRUE(source.Until(expected.size() + ahead));
    std::this_thread::sleep_for(20ms);
    EXPECT_EQ(source.asked().size(), expected.size() + ahead) << "after step " << step;
  }
  EXPECT_EQ(source.asked(), expected);
}

TEST(Prefetcher, WhatWasReadAheadCostsNoTime) {
  Source source;
  source.delay = 30ms;
  Prefetcher prefetcher(source.Function(), kPlan);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(prefetcher.Get(2 * i, 2).ok());
  ASSERT_TRUE(source.Until(6));
  std::this_thread::sleep_for(20ms);
  source.delay = 10s;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(prefetcher.Get(12 + 2 * i, 2).ok());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 5s);
  source.delay = 0ms;
}

TEST(Prefetcher, AnErrorComesWithItsBatchAndIsReadAgain) {
  Source source;
  source.bad = 14;
  Prefetcher prefetcher(source.Function(), kPlan);
  for (const int64_t first : {0, 2, 4, 12}) ASSERT_TRUE(prefetcher.Get(first, 2).ok()) << first;
  EXPECT_EQ(prefetcher.Get(14, 2).status(), absl::DataLossError("bad disk at 14"));
  EXPECT_EQ(prefetcher.Get(14, 2).status(), absl::DataLossError("bad disk at 14"));
  source.bad = -1;
  EXPECT_TRUE(prefetcher.Get(14, 2).ok());
  EXPECT_TRUE(prefetcher.Get(16, 2).ok());
}

// An evaluation: the same samples over and over, of which the last batch is a part.
TEST(Prefetcher, BeginsAnewWhereItIsAsked) {
  Source source;
  Prefetcher prefetcher(source.Function(), {.count = 2, .batches = 3, .stride = 6, .end = 9});
  for (int round = 0; round < 5; ++round) {
    for (const auto& [first, count] : {std::pair(0, 2), {2, 2}, {4, 2}, {6, 2}, {8, 1}}) {
      const auto batch = prefetcher.Get(first, count);
      ASSERT_TRUE(batch.ok());
      EXPECT_EQ(batch->first_sample, first);
      EXPECT_EQ(batch->samples, count);
    }
  }
  const auto elsewhere = prefetcher.Get(4, 2);  // in the middle of what is read ahead
  ASSERT_TRUE(elsewhere.ok());
  EXPECT_EQ(elsewhere->first_sample, 4);
}

TEST(Prefetcher, EndsAtOnceAndLeavesNoThread) {
  const int64_t before = Threads();
  for (int round = 0; round < 50; ++round) {
    Source source;
    Prefetcher prefetcher(source.Function(), kPlan);
    if (round % 3 > 0) {
      ASSERT_TRUE(prefetcher.Get(0, 2).ok());
    }
    if (round % 3 > 1) std::this_thread::sleep_for(1ms);
    EXPECT_EQ(Threads(), before + 1);
  }
  EXPECT_EQ(Threads(), before);
}

}  // namespace
}  // namespace trefoil
