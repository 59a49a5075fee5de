#include "data/tasks/labelled.h"

#include <algorithm>
#include <set>

#include "tests/data/records/record_testing.h"

namespace trefoil {
namespace {

using enum RecordPart;
using Kind = LabelledTexts::Kind;

const SpecialTokens kSpecial = EncoderTokens(0, 1000);  // begin 1000, separator 1001
const RecordDescription kReviews = {.parts = {kText, kLabel}, .labels = {"bad", "good"}, .vocabulary = 1000};
const RecordDescription kEntailment = {
    .parts = {kText, kTextPair, kLabel}, .labels = {"yes", "no", "unknown"}, .vocabulary = 1000};

std::unique_ptr<LabelledTexts> OpenTexts(const std::string& glob, const LabelledOptions& options, uint64_t seed = 5) {
  auto texts = LabelledTexts::Open(OpenRecords({glob}), kSpecial, options, seed);
  EXPECT_TRUE(texts.ok()) << texts.status();
  return *std::move(texts);
}

Batch GetOrDie(const Samples& samples, int64_t first, int64_t count) {
  auto batch = samples.Get(first, count);
  EXPECT_TRUE(batch.ok()) << batch.status();
  return *std::move(batch);
}

TEST(LabelledTexts, ClassesOfTexts) {
  const std::string prefix = TestFolder() + "/train";
  WriteRecords(prefix, kReviews, {{{11, 12, 13}, {1}}});
  const auto texts = OpenTexts(prefix, {.length = 8});
  EXPECT_EQ(texts->kind(), Kind::kClass);
  EXPECT_EQ(texts->classes(), (std::vector<std::string>{"bad", "good"}));
  EXPECT_EQ(texts->class_counts(), (std::vector<int64_t>{0, 1}));
  EXPECT_FALSE(texts->weighted());
  const Batch batch = GetOrDie(*texts, 3, 1);
  EXPECT_EQ(batch.samples, 1);
  EXPECT_EQ(batch.length, 8);
  EXPECT_EQ(batch.first_sample, 3);
  EXPECT_EQ(Row(batch.inputs, 0), (std::vector<int32_t>{1000, 11, 12, 13, 1001, 0, 0, 0}));
  EXPECT_EQ(Row(batch.segments, 0), std::vector<int32_t>(8));
  EXPECT_EQ(batch.lengths.values<int32_t>(), (std::vector<int32_t>{5}));
  EXPECT_EQ(Row(batch.targets, 0), (std::vector<int32_t>{1}));
  EXPECT_EQ(Row(batch.places, 0), (std::vector<int32_t>{0}));
  EXPECT_FALSE(batch.weights.defined());
  EXPECT_FALSE(batch.values.defined());
}

TEST(LabelledTexts, ClassesOfPairs) {
  const std::string prefix = TestFolder() + "/train";
  WriteRecords(prefix, kEntailment, {{{11, 12}, {21, 22, 23}, {2}}});
  const Batch batch = GetOrDie(*OpenTexts(prefix, {.length = 10}), 0, 1);
  EXPECT_EQ(Row(batch.inputs, 0), (std::vector<int32_t>{1000, 11, 12, 1001, 21, 22, 23, 1001, 0, 0}));
  EXPECT_EQ(Row(batch.segments, 0), (std::vector<int32_t>{0, 0, 0, 0, 1, 1, 1, 1, 0, 0}));
  EXPECT_EQ(batch.lengths.values<int32_t>(), (std::vector<int32_t>{8}));
  EXPECT_EQ(Row(batch.targets, 0), (std::vector<int32_t>{2}));
}

TEST(LabelledTexts, ValuesOfTexts) {
  const std::string prefix = TestFolder() + "/train";
  WriteRecords(prefix, {.parts = {kText, kTextPair, kValue}, .vocabulary = 1000}, {{{11}, {21}, ValueIds(-2.75f)}});
  const auto texts = OpenTexts(prefix, {.length = 6});
  EXPECT_EQ(texts->kind(), Kind::kValue);
  EXPECT_TRUE(texts->classes().empty());
  const Batch batch = GetOrDie(*texts, 0, 1);
  EXPECT_EQ(Row(batch.inputs, 0), (std::vector<int32_t>{1000, 11, 1001, 21, 1001, 0}));
  EXPECT_EQ(batch.values.shape(), (Shape{1, 1, 1}));
  EXPECT_EQ(batch.values.values<float>()[0], -2.75f);
  EXPECT_EQ(Row(batch.places, 0), (std::vector<int32_t>{0}));
  EXPECT_FALSE(batch.targets.defined());
}

TEST(LabelledTexts, LabelsOfTokens) {
  const std::string prefix = TestFolder() + "/train";
  WriteRecords(prefix, {.parts = {kText, kTokenLabels}, .labels = {"O", "PER"}, .vocabulary = 1000},
               {{{11, 12, 13, 14}, {1, 2, 0, 1}}});
  const auto texts = OpenTexts(prefix, {.length = 8});
  EXPECT_EQ(texts->kind(), Kind::kTokenClass);
  EXPECT_TRUE(texts->weighted());
  const Batch batch = GetOrDie(*texts, 0, 1);
  EXPECT_EQ(Row(batch.inputs, 0), (std::vector<int32_t>{1000, 11, 12, 13, 14, 1001, 0, 0}));
  EXPECT_EQ(Row(batch.targets, 0), (std::vector<int32_t>{0, 0, 1, 0, 0, 0, 0, 0}));
  EXPECT_EQ(Row<float>(batch.weights, 0), (std::vector<float>{0, 1, 1, 0, 1, 0, 0, 0}));
  EXPECT_FALSE(batch.places.defined());
  // Labels are cut with the text.
  const auto cut = OpenTexts(prefix, {.length = 5});
  EXPECT_EQ(cut->cut(), 1);
  const Batch short_batch = GetOrDie(*cut, 0, 1);
  EXPECT_EQ(Row(short_batch.inputs, 0), (std::vector<int32_t>{1000, 11, 12, 13, 1001}));
  EXPECT_EQ(Row<float>(short_batch.weights, 0), (std::vector<float>{0, 1, 1, 0, 0}));
}

// Against taking one token after the other off the longer.
TEST(LabelledTexts, TheLongerOfTwoIsCut) {
  const std::string folder = TestFolder();
  for (int text = 1; text <= 9; ++text) {
    for (int pair = 1; pair <= 9; ++pair) {
      const std::string prefix = folder + "/" + std::to_string(text) + "-" + std::to_string(pair);
      WriteRecords(prefix, kEntailment, {{std::vector<int32_t>(text, 11), std::vector<int32_t>(pair, 22), {0}}});
      for (const int length : {5, 6, 7, 10, 11}) {
        int a = text, b = pair;
        while (a + b + 3 > length) a > b ? --a : --b;
        std::vector<int32_t> expected = {1000};
        expected.insert(expected.end(), a, 11);
        expected.push_back(1001);
        expected.insert(expected.end(), b, 22);
        expected.push_back(1001);
        expected.resize(length);
        const auto texts = OpenTexts(prefix, {.length = length});
        EXPECT_EQ(texts->cut(), a < text || b < pair);
        EXPECT_EQ(Row(GetOrDie(*texts, 0, 1).inputs, 0), expected) << text << " " << pair << " in " << length;
      }
    }
  }
}

// The first tokens of an epoch's samples.
std::vector<int32_t> Epoch(const LabelledTexts& texts, int64_t epoch) {
  const Batch batch = GetOrDie(texts, epoch * texts.samples(), texts.samples());
  std::vector<int32_t> tokens;
  for (int64_t row = 0; row < batch.samples; ++row)
    tokens.push_back(batch.inputs.values<int32_t>()[row * batch.length + 1]);
  return tokens;
}

TEST(LabelledTexts, AFewRecordsAreChosenBySeed) {
  const std::string prefix = TestFolder() + "/train";
  std::vector<Record> records;
  for (int i = 0; i < 100; ++i) records.push_back({{i + 1, 500}, {i % 2}});
  WriteRecords(prefix, kReviews, records);
  const auto all = Epoch(*OpenTexts(prefix, {.length = 4}), 0);
  EXPECT_EQ(std::set<int32_t>(all.begin(), all.end()).size(), 100u);
  EXPECT_FALSE(std::is_sorted(all.begin(), all.end()));
  const auto few = OpenTexts(prefix, {.length = 4, .limit = 10});
  EXPECT_EQ(few->samples(), 10);
  const auto first = Epoch(*few, 0), second = Epoch(*few, 1);
  const std::set<int32_t> chosen(first.begin(), first.end());
  EXPECT_EQ(chosen.size(), 10u);
  EXPECT_EQ(std::set<int32_t>(second.begin(), second.end()), chosen);
  EXPECT_NE(first, second);
  // What a resumed run, and a comparison of few-label runs, depends on.
  EXPECT_EQ(first, (std::vector<int32_t>{82, 50, 19, 32, 93, 95, 20, 94, 49, 40}));
  const auto more = Epoch(*OpenTexts(prefix, {.length = 4, .limit = 30}), 0);
  for (const int32_t id : chosen) EXPECT_EQ(std::count(more.begin(), more.end(), id), 1);
  const auto other = Epoch(*OpenTexts(prefix, {.length = 4, .limit = 10}, 6), 0);
  EXPECT_NE(std::set<int32_t>(other.begin(), other.end()), chosen);
  EXPECT_EQ(OpenTexts(prefix, {.length = 4, .limit = 1000})->samples(), 100);
}

TEST(LabelledTexts, ShortBatchesHoldTheSameAsLongOnes) {
  std::vector<Record> records;
  for (int i = 0; i < 120; ++i) records.push_back({std::vector<int32_t>(1 + i % 60, 10 + i), {i % 2}});
  const std::string prefix = TestFolder() + "/train";
  WriteRecords(prefix, kReviews, records);
  const auto full = OpenTexts(prefix, {.length = 50, .batch = 8});
  const auto small = OpenTexts(prefix, {.length = 50, .batch = 8, .shorten = {.multiple = 16}});
  EXPECT_FALSE(full->Lengths(0, 8).has_value());
  int shorter = 0;
  for (int64_t k = 0; k < 120; k += 8) {
    const SampleLengths padded = small->Lengths(k, 8).value();
    EXPECT_TRUE(padded.inputs == 50 || padded.inputs % 16 == 0) << padded.inputs;
    const Batch whole = GetOrDie(*full, k, 8), part = GetOrDie(*small, k, 8);
    EXPECT_EQ(part.length, padded.inputs);
    EXPECT_EQ(part.inputs.shape(), (Shape{8, padded.inputs}));
    EXPECT_EQ(part.targets.values<int32_t>(), whole.targets.values<int32_t>());
    EXPECT_EQ(part.lengths.values<int32_t>(), whole.lengths.values<int32_t>());
    int32_t longest = 0;
    for (int64_t row = 0; row < 8; ++row) {
      auto ids = Row(part.inputs, row);
      longest = std::max(longest, part.lengths.values<int32_t>()[static_cast<size_t>(row)]);
      ids.resize(50);  // padding is 0
      EXPECT_EQ(ids, Row(whole.inputs, row));
    }
    EXPECT_GT(longest, padded.inputs - 16);
    shorter += padded.inputs < 50;
  }
  EXPECT_GT(shorter, 8);
}

TEST(LabelledTexts, SaysWhatIsWrong) {
  const std::string folder = TestFolder();
  WriteRecords(folder + "/pairs", {.parts = {kSource, kTarget}, .vocabulary = 1000}, {{{1}, {2}}});
  ExpectError(LabelledTexts::Open(OpenRecords({folder + "/pairs"}), kSpecial, {.length = 8}, 1).status(),
              {"/pairs: records of source, target; labelled texts are text, perhaps text_pair, and label"});
  WriteRecords(folder + "/train", kEntailment, {{{1}, {2}, {0}}});
  ExpectError(LabelledTexts::Open(OpenRecords({folder + "/train"}), kSpecial, {.length = 4}, 1).status(),
              {"/train: inputs of 4 tokens are too short for [begin] text [separator] text_pair", "at least 5"});
}

}  // namespace
}  // namespace trefoil
