#include "data/tasks/pairs.h"

#include <algorithm>
#include <random>

#include "tests/data/records/record_testing.h"

namespace trefoil {
namespace {

const RecordDescription kPairs = {.parts = {RecordPart::kSource, RecordPart::kTarget}, .vocabulary = 1000};

// Record i: 1 + i % 40 times the token 1 + i, and its translation, 500 + i, as often and (i % 3) more.
std::vector<Record> Sentences(int count) {
  std::vector<Record> records;
  for (int i = 0; i < count; ++i) {
    records.push_back({std::vector<int32_t>(1 + i % 40, 1 + i), std::vector<int32_t>(1 + i % 40 + i % 3, 500 + i)});
  }
  return records;
}

std::unique_ptr<Pairs> OpenPairs(const std::string& glob, const PairOptions& options, uint64_t seed = 5) {
  auto pairs = Pairs::Open(OpenRecords({glob}), /*end_of_text=*/0, options, seed);
  EXPECT_TRUE(pairs.ok()) << pairs.status();
  return *std::move(pairs);
}

TEST(Pairs, RowsAreSourceAndShiftedTarget) {
  const std::string folder = TestFolder();
  WriteRecords(folder + "/train", kPairs, {{{11, 12, 13}, {21, 22}}});
  const auto pairs = OpenPairs(folder + "/train", {.inputs_length = 6, .decoder_length = 5});
  EXPECT_TRUE(pairs->weighted());
  EXPECT_EQ(pairs->dropped(), 0);
  const auto batch = pairs->Get(7, 1);
  ASSERT_TRUE(batch.ok()) << batch.status();
  EXPECT_EQ(batch->samples, 1);
  EXPECT_EQ(batch->length, 6);
  EXPECT_EQ(batch->first_sample, 7);
  EXPECT_EQ(Row(batch->inputs, 0), (std::vector<int32_t>{11, 12, 13, 0, 0, 0}));
  EXPECT_EQ(batch->lengths.values<int32_t>(), (std::vector<int32_t>{4}));
  EXPECT_EQ(batch->lengths.shape(), (Shape{1}));
  EXPECT_EQ(Row(batch->decoder_inputs, 0), (std::vector<int32_t>{0, 21, 22, 0, 0}));
  EXPECT_EQ(Row(batch->targets, 0), (std::vector<int32_t>{21, 22, 0, 0, 0}));
  EXPECT_EQ(Row<float>(batch->weights, 0), (std::vector<float>{1, 1, 1, 0, 0}));
  EXPECT_FALSE(batch->places.defined());
}

TEST(Pairs, WhatIsTooLongIsDropped) {
  const std::string folder = TestFolder();
  // Of lengths 3/2 (fits exactly), 4/1, 1/3, 1/1.
  WriteRecords(folder + "/train", kPairs, {{{1, 1, 1}, {1, 1}}, {{2, 2, 2, 2}, {2}}, {{3}, {3, 3, 3}}, {{4}, {4}}});
  const auto pairs = OpenPairs(folder + "/train", {.inputs_length = 4, .decoder_length = 3});
  EXPECT_EQ(pairs->samples(), 2);
  EXPECT_EQ(pairs->dropped(), 2);
  const auto batch = pairs->Get(0, 2);
  ASSERT_TRUE(batch.ok());
  std::vector<int32_t> first = {batch->inputs.values<int32_t>()[0], batch->inputs.values<int32_t>()[4]};
  std::sort(first.begin(), first.end());
  EXPECT_EQ(first, (std::vector<int32_t>{1, 4}));
}

TEST(Pairs, NoneThatFitsIsAnError) {
  const std::string folder = TestFolder();
  WriteRecords(folder + "/train", kPairs, {{{1, 1, 1}, {1}}, {{1, 1}, {1, 1, 1, 1}}});
  ExpectError(Pairs::Open(OpenRecords({folder + "/train"}), 0, {.inputs_length = 2, .decoder_length = 2}, 5).status(),
              {"/train: none of 2 pairs fits 2 tokens of source and 2 of target", "the shortest of each have 3 and 2"});
  const RecordDescription other = {.parts = {RecordPart::kText}, .vocabulary = 10};
  WriteRecords(folder + "/other", other, {{{1}}});
  ExpectError(Pairs::Open(OpenRecords({folder + "/other"}), 0, {.inputs_length = 8, .decoder_length = 8}, 5).status(),
              {"records of text; translation needs source, target"});
}

TEST(Pairs, ShortBatchesHoldTheSameAsLongOnes) {
  const std::string folder = TestFolder();
  WriteRecords(folder + "/train", kPairs, Sentences(400));
  const PairOptions options = {.inputs_length = 40, .decoder_length = 64, .batch = 10};
  PairOptions shorten = options;
  shorten.shorten = {.multiple = 16};
  const auto full = OpenPairs(folder + "/train", options), small = OpenPairs(folder + "/train", shorten);
  EXPECT_EQ(full->dropped(), 10);  // of 40 tokens of source, and the end makes 41
  EXPECT_FALSE(full->Lengths(0, 10).has_value());
  std::vector<int> seen(400);
  int shorter = 0;
  for (int64_t k = 0; k < 390; k += 10) {
    const SampleLengths padded = small->Lengths(k, 10).value();
    const auto whole = full->Get(k, 10), part = small->Get(k, 10);
    ASSERT_TRUE(whole.ok() && part.ok());
    EXPECT_EQ(whole->inputs.shape(), (Shape{10, 40}));
    EXPECT_EQ(whole->targets.shape(), (Shape{10, 64}));
    EXPECT_EQ(part->length, padded.inputs);
    EXPECT_EQ(part->inputs.shape(), (Shape{10, padded.inputs}));
    EXPECT_EQ(part->decoder_inputs.shape(), (Shape{10, padded.decoder}));
    EXPECT_TRUE(padded.inputs == 40 || padded.inputs % 16 == 0) << padded.inputs;
    EXPECT_EQ(padded.decoder % 16, 0) << padded.decoder;
    shorter += padded.inputs < 40;
    int32_t longest = 0;
    for (int64_t row = 0; row < 10; ++row) {
      for (const auto& [wide, narrow] : {std::pair(&whole->inputs, &part->inputs),
                                         {&whole->targets, &part->targets},
                                         {&whole->decoder_inputs, &part->decoder_inputs}}) {
        auto ids = Row(*narrow, row);
        ids.resize(wide->shape()[1]);  // padding is 0
        EXPECT_EQ(ids, Row(*wide, row));
      }
      auto weights = Row<float>(part->weights, row);
      weights.resize(64);
      EXPECT_EQ(weights, Row<float>(whole->weights, row));
      EXPECT_EQ(part->lengths.values<int32_t>(), whole->lengths.values<int32_t>());
      longest = std::max(longest, part->lengths.values<int32_t>()[row]);
      // The sentence and its translation belong together.
      const int32_t id = Row(part->inputs, row)[0] - 1;
      EXPECT_EQ(Row(part->targets, row)[0], 500 + id);
      ++seen[id];
    }
    EXPECT_GT(longest, padded.inputs - 16);
  }
  EXPECT_GT(shorter, 25);
  for (int i = 0; i < 400; ++i) EXPECT_EQ(seen[i], i % 40 == 39 ? 0 : 1) << i;
}

}  // namespace
}  // namespace trefoil
