#include "data/tasks/span_corruption.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "tests/data/data_testing.h"

namespace trefoil {
namespace {

constexpr int64_t kVocabulary = 1000;
const SpecialTokens kSpecial = SentinelTokens(0, kVocabulary);

// 1 to 999, over and over.
std::string WriteCounting(int64_t tokens) {
  const std::string prefix = TestFolder() + "/train";
  std::vector<int32_t> ids(tokens);
  for (int64_t i = 0; i < tokens; ++i) ids[i] = static_cast<int32_t>(1 + i % 999);
  WriteDocuments(prefix, {ids}, kVocabulary);
  return prefix;
}

std::unique_ptr<Loader> OpenText(const std::string& prefix, const SpanCounts& counts, uint64_t seed) {
  auto loader = Loader::Open({prefix}, counts.text - 1, kVocabulary, seed);
  EXPECT_TRUE(loader.ok()) << loader.status();
  return *std::move(loader);
}

SpanCounts CountsOrDie(int64_t length, const SpanOptions& options) {
  const auto counts = SpanLengths(length, options);
  EXPECT_TRUE(counts.ok()) << counts.status();
  return *counts;
}

// As t5's random_spans_helper says them.
TEST(SpanLengths, AreThoseOfT5) {
  EXPECT_EQ(CountsOrDie(512, {.rate = 0.15, .mean_span = 3}),
            (SpanCounts{.text = 568, .inputs = 512, .targets = 114, .lost = 85, .spans = 28}));
  const auto text_and_targets = [](int64_t length, const SpanOptions& options) {
    const SpanCounts counts = CountsOrDie(length, options);
    return std::pair(counts.text, counts.targets);
  };
  EXPECT_EQ(text_and_targets(128, {0.15, 3}), std::pair(int64_t{141}, int64_t{29}));
  EXPECT_EQ(text_and_targets(256, {0.15, 3}), std::pair(int64_t{284}, int64_t{58}));
  EXPECT_EQ(text_and_targets(1024, {0.15, 3}), std::pair(int64_t{1137}, int64_t{229}));
  EXPECT_EQ(text_and_targets(512, {0.5, 3}), std::pair(int64_t{767}, int64_t{513}));
  EXPECT_EQ(text_and_targets(512, {0.5, 64}), std::pair(int64_t{1007}, int64_t{513}));
  for (const SpanOptions options : {SpanOptions{0.15, 3}, {0.5, 3}, {0.5, 1.5}, {0.15, 8}, {0.5, 64}, {0.01, 1}}) {
    for (int64_t length = 3; length < 700; ++length) {
      const SpanCounts counts = CountsOrDie(length, options);
      ASSERT_EQ(counts.inputs, length) << options.rate << " " << options.mean_span;
      ASSERT_EQ(counts.inputs, counts.text - counts.lost + counts.spans + 1);
      ASSERT_EQ(counts.targets, counts.lost + counts.spans + 1);
      ASSERT_GE(counts.lost, counts.spans);
      ASSERT_GE(counts.text - counts.lost, counts.spans);
      if (length > 100) {
        EXPECT_NEAR(static_cast<double>(counts.lost) / counts.text, options.rate, 0.01);
        EXPECT_NEAR(static_cast<double>(counts.lost) / options.mean_span, counts.spans, 1);
      }
    }
  }
}

TEST(SpanLengths, SaysWhatIsWrong) {
  ExpectError(SpanLengths(512, {.rate = 0}).status(), {"rate of lost tokens: 0 is outside (0, 0.9]"});
  ExpectError(SpanLengths(512, {.rate = 1}).status(), {"rate of lost tokens: 1 is outside (0, 0.9]"});
  ExpectError(SpanLengths(512, {.rate = 0.15, .mean_span = 0.5}).status(), {"mean span: 0.5 is below 1"});
  ExpectError(SpanLengths(2, {}).status(), {"inputs of 2 tokens", "at least 3"});
  ExpectError(SpanLengths(512, {.rate = 0.8, .mean_span = 2}).status(),
              {"rate of lost tokens: 0.8 leaves", "a lower rate or longer spans"});
}

TEST(SpanCorruption, TheTextComesBackFromBothHalves) {
  const std::string prefix = WriteCounting(5000);
  for (const SpanOptions options : {SpanOptions{0.15, 3}, {0.5, 1.5}, {0.5, 8}}) {
    const SpanCounts counts = CountsOrDie(64, options);
    const SpanCorruption corruption(OpenText(prefix, counts, 7), kSpecial, counts, 7);
    const auto text = OpenText(prefix, counts, 7);
    EXPECT_EQ(corruption.samples(), text->samples());
    EXPECT_FALSE(corruption.weighted());
    const auto batch = corruption.Get(5, 50);
    ASSERT_TRUE(batch.ok()) << batch.status();
    EXPECT_EQ(batch->length, 64);
    EXPECT_EQ(batch->first_sample, 5);
    EXPECT_EQ(batch->inputs.shape(), (Shape{50, 64}));
    EXPECT_EQ(batch->targets.shape(), (Shape{50, counts.targets}));
    for (int64_t row = 0; row < 50; ++row) {
      const auto inputs = Row(batch->inputs, row), targets = Row(batch->targets, row);
      // Lost tokens after each sentinel of the targets, put in place of the input's.
      std::map<int32_t, std::vector<int32_t>> lost;
      int32_t sentinel = -1;
      for (const int32_t id : targets) {
        if (id == 0) break;
        if (id < kVocabulary) {
          lost[sentinel].push_back(id);
        } else {
          EXPECT_EQ(id, sentinel < 0 ? kVocabulary : sentinel + 1);
          sentinel = id;
        }
      }
      EXPECT_EQ(lost.size(), static_cast<size_t>(counts.spans));
      std::vector<int32_t> whole;
      for (const int32_t id : inputs) {
        if (id == 0) break;
        if (id < kVocabulary) {
          whole.push_back(id);
        } else {
          ASSERT_FALSE(whole.empty()) << "the first span is kept";
          whole.insert(whole.end(), lost.at(id).begin(), lost.at(id).end());
        }
      }
      std::vector<int32_t> expected(counts.text);
      ASSERT_TRUE(text->ReadSample(5 + row, expected).ok());
      EXPECT_EQ(whole, expected);
      EXPECT_EQ(inputs.back(), 0);
      EXPECT_EQ(targets.back(), 0);
      std::vector<int32_t> shifted = {0};
      shifted.insert(shifted.end(), targets.begin(), targets.end() - 1);
      EXPECT_EQ(Row(batch->decoder_inputs, row), shifted);
    }
  }
}

// Five lost tokens in two spans: four divisions, as likely as each other.
TEST(SpanCorruption, DivisionsAreEquallyLikely) {
  constexpr int kSamples = 8000;
  const SpanCounts counts = {.text = 12, .inputs = 10, .targets = 8, .lost = 5, .spans = 2};
  const SpanCorruption corruption(OpenText(WriteCounting(500), counts, 7), kSpecial, counts, 7);
  const auto batch = corruption.Get(0, kSamples);
  ASSERT_TRUE(batch.ok());
  std::vector<int> lost(5), kept(7);
  for (int64_t row = 0; row < kSamples; ++row) {
    const auto inputs = Row(batch->inputs, row), targets = Row(batch->targets, row);
    ++lost[std::find(targets.begin(), targets.end(), kVocabulary + 1) - targets.begin() - 1];
    ++kept[std::find(inputs.begin(), inputs.end(), kVocabulary) - inputs.begin()];
  }
  EXPECT_EQ(lost[0] + kept[0], 0);
  for (int length = 1; length < 5; ++length) EXPECT_NEAR(lost[length], kSamples / 4, 5 * std::sqrt(kSamples / 4.0));
  for (int length = 1; length < 7; ++length) EXPECT_NEAR(kept[length], kSamples / 6, 5 * std::sqrt(kSamples / 6.0));
}

// What a resumed run depends on; the same in parts.
TEST(SpanCorruption, TheCutIsFrozen) {
  const SpanCounts counts = CountsOrDie(20, {.rate = 0.3, .mean_span = 2});
  const SpanCorruption corruption(OpenText(WriteCounting(500), counts, 42), kSpecial, counts, 42);
  const auto batch = corruption.Get(1000, 2);
  ASSERT_TRUE(batch.ok());
  EXPECT_EQ(Row(batch->inputs, 0), (std::vector<int32_t>{463,  464, 465, 1000, 467, 468,  469, 470, 471,  472,
                                                         1001, 475, 476, 477,  478, 1002, 482, 483, 1003, 0}));
  EXPECT_EQ(Row(batch->targets, 0),
            (std::vector<int32_t>{1000, 466, 1001, 473, 474, 1002, 479, 480, 481, 1003, 484, 0}));
  const auto second = corruption.Get(1001, 1);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(Row(second->inputs, 0), Row(batch->inputs, 1));
  EXPECT_NE(Row(batch->inputs, 0), Row(batch->inputs, 1));
}

}  // namespace
}  // namespace trefoil
