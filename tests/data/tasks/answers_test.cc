#include "data/tasks/answers.h"

#include <algorithm>
#include <set>

#include "tests/data/records/record_testing.h"

namespace trefoil {
namespace {

const RecordDescription kChats = {.parts = {RecordPart::kConversation, RecordPart::kAnswers}, .vocabulary = 1000};

std::unique_ptr<Answers> OpenAnswers(const std::string& glob, int64_t length, uint64_t seed = 5) {
  auto answers = Answers::Open(OpenRecords({glob}), /*end_of_text=*/0, length, seed);
  EXPECT_TRUE(answers.ok()) << answers.status();
  return *std::move(answers);
}

TEST(Answers, OnlyTokensOfAnswersCount) {
  const std::string prefix = TestFolder() + "/train";
  WriteRecords(prefix, kChats, {{{11, 12, 0, 21, 22, 0}, {0, 0, 0, 0, 1, 1}}});
  const auto answers = OpenAnswers(prefix, 7);
  EXPECT_TRUE(answers->weighted());
  const auto batch = answers->Get(2, 1);
  ASSERT_TRUE(batch.ok()) << batch.status();
  EXPECT_EQ(batch->samples, 1);
  EXPECT_EQ(batch->length, 7);
  EXPECT_EQ(batch->first_sample, 2);
  EXPECT_EQ(Row(batch->inputs, 0), (std::vector<int32_t>{11, 12, 0, 21, 22, 0, 0}));
  EXPECT_EQ(Row(batch->targets, 0), (std::vector<int32_t>{12, 0, 21, 22, 0, 0, 0}));
  EXPECT_EQ(Row<float>(batch->weights, 0), (std::vector<float>{0, 0, 0, 1, 1, 0, 0}));
  EXPECT_FALSE(batch->places.defined());
}

TEST(Answers, WhatIsTooLongIsDropped) {
  const std::string prefix = TestFolder() + "/train";
  std::vector<Record> records;
  for (int length = 2; length <= 11; ++length) {
    records.push_back({std::vector<int32_t>(length, length), std::vector<int32_t>(length, 1)});
  }
  WriteRecords(prefix, kChats, records);
  const auto answers = OpenAnswers(prefix, 5);
  EXPECT_EQ(answers->samples(), 5);  // of 2 to 6 tokens
  EXPECT_EQ(answers->dropped(), 5);
  for (const int64_t epoch : {0, 1}) {
    std::set<int32_t> seen;
    const auto batch = answers->Get(5 * epoch, 5);
    ASSERT_TRUE(batch.ok());
    for (int64_t row = 0; row < 5; ++row) seen.insert(batch->inputs.values<int32_t>()[row * 5]);
    EXPECT_EQ(seen, (std::set<int32_t>{2, 3, 4, 5, 6}));
  }
  WriteRecords(prefix, kChats, {records[8], records[9]});
  ExpectError(Answers::Open(OpenRecords({prefix}), 0, 5, 1).status(),
              {"/train: none of 2 conversations fits inputs of 5 tokens; the shortest has 9"});
}

TEST(Answers, OtherRecordsAreRefused) {
  const std::string prefix = TestFolder() + "/train";
  WriteRecords(prefix, {.parts = {RecordPart::kText}, .vocabulary = 10}, {{{1}}});
  ExpectError(Answers::Open(OpenRecords({prefix}), 0, 8, 1).status(),
              {"records of text; training on instructions needs conversation, answers"});
}

}  // namespace
}  // namespace trefoil
