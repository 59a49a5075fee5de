#include "data/evaluation/text_rows.h"

#include <gtest/gtest.h>

#include <numeric>

namespace trefoil {
namespace {

using Ids = std::vector<int32_t>;

// Every token is scored once, with as much before it as the rule says.
TEST(Windows, ScoreEachTokenOnce) {
  Ids ids(23);
  std::iota(ids.begin(), ids.end(), 100);
  for (const int64_t context : {1, 4, 7, 23, 40}) {
    for (int64_t stride = 1; stride <= context; ++stride) {
      const std::vector<TextRow> windows = Windows(ids, 7, context, stride);
      EXPECT_EQ(windows.front().ids.front(), 7);
      Ids scored;
      for (size_t i = 0; i < windows.size(); ++i) {
        const TextRow& row = windows[i];
        EXPECT_EQ(row.length(), std::min<int64_t>(context, 23));
        EXPECT_LE(row.scored, i == 0 ? context : stride);
        scored.insert(scored.end(), row.ids.end() - row.scored, row.ids.end());
        for (size_t t = 1; t + 1 < row.ids.size(); ++t) EXPECT_EQ(row.ids[t] + 1, row.ids[t + 1]);
      }
      EXPECT_EQ(scored, ids) << context << " " << stride;
    }
  }
  // The harness's: each token once, but the last window has what fits before it.
  const std::vector<TextRow> windows = Windows({1, 2, 3, 4, 5, 6}, 0, 4, 4);
  ASSERT_EQ(windows.size(), 2u);
  EXPECT_EQ(windows[0].ids, (Ids{0, 1, 2, 3, 4}));
  EXPECT_EQ(windows[1].ids, (Ids{2, 3, 4, 5, 6}));
  EXPECT_EQ(windows[1].scored, 2);
}

class RowsTest : public testing::Test {
 protected:
  // Words of the alphabet that are single tokens behind a space.
  static Tokenizer& Words() {
    static Tokenizer& tokenizer = *new Tokenizer(*Tokenizer::Train(
        std::vector<std::string>{"one two three four five one two three four five one two three four five seven seven"},
        275));
    return tokenizer;
  }
  static absl::StatusOr<TaskRows> Rows(const std::string& context, const std::string& choice,
                                       const RowOptions& options) {
    EvaluationTask task = {.name = "t", .path = "t", .kind = EvaluationKind::kLastWord, .examples = {}};
    task.examples.push_back(
        {.place = "t: line 1", .continuations = {{.context = context, .text = choice, .answer = choice}}});
    return RowsOf(task, Words(), options);
  }
};

TEST_F(RowsTest, SpacesThatEndAContextBelongToTheChoice) {
  const Ids all = Words().Encode("one two three");
  const auto known = Words().Encode("one two").size();
  for (const auto& [context, choice] : {std::pair("one two", " three"), {"one two ", "three"}}) {
    const auto rows = Rows(context, choice, {.context = 64});
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_EQ(rows->rows[0].ids, all);
    EXPECT_EQ(rows->rows[0].scored, static_cast<int64_t>(all.size() - known));
  }
  const auto begun = Rows("one two", " three", {.context = 64, .begin = {5, 6}});
  EXPECT_EQ(begun->rows[0].ids.size(), all.size() + 2);
  EXPECT_EQ(begun->rows[0].ids[1], 6);
}

TEST_F(RowsTest, ATextNeedsATokenBeforeIt) {
  for (const std::string context : {"", "  "}) {
    const auto rows = Rows(context, " one", {.context = 64});
    ASSERT_TRUE(rows.ok()) << rows.status();
    const Ids ids = Words().Encode(context + " one");
    EXPECT_EQ(rows->rows[0].ids.front(), Words().end_of_text());
    EXPECT_EQ(rows->rows[0].scored, static_cast<int64_t>(ids.size()));
  }
}

TEST_F(RowsTest, WhatIsTooLongLosesItsBeginning) {
  const Ids all = Words().Encode("one two three four");
  const auto n = static_cast<int64_t>(all.size());
  const int64_t scored = n - static_cast<int64_t>(Words().Encode("one two three").size());
  const auto fits = Rows("one two three", " four", {.context = n - 1});
  EXPECT_EQ(fits->cut, 0);
  const auto cut = Rows("one two three", " four", {.context = scored, .begin = {9}});
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_EQ(cut->cut, 1);
  EXPECT_EQ(cut->first_cut, "t: line 1");
  EXPECT_EQ(cut->rows[0].ids, Ids(all.end() - scored - 1, all.end()));
  const std::string digits = " 1234567890";
  EXPECT_TRUE(Rows("one", digits, {.context = 5}).status().message().find("more than the 5 that the model reads") !=
              std::string::npos);
}

}  // namespace
}  // namespace trefoil
