#include "training/inference/beam_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "runtime/random.h"

namespace trefoil {
namespace {

constexpr int32_t kEnd = 0;
constexpr int64_t kVocabulary = 4;

// A made-up network: the logits of the next token are a function of the text and of what is there so far.
std::vector<float> LogProbabilities(uint64_t seed, const Prefix& prefix) {
  uint64_t key = RandomKey(seed, "text " + std::to_string(prefix.text));
  for (const int32_t id : prefix.ids) key = RandomKey(key, std::to_string(id));
  std::vector<float> row(kVocabulary);
  double sum = 0;
  for (size_t i = 0; i < row.size(); ++i) sum += std::exp(row[i] = 4 * static_cast<float>(Uniform(key, i)));
  for (float& x : row) x -= static_cast<float>(std::log(sum));
  return row;
}

NextToken Network(uint64_t seed, int* calls = nullptr) {
  return [=](std::span<const Prefix> prefixes) {
    if (calls != nullptr) ++*calls;
    Rows rows = {.columns = kVocabulary};
    for (const Prefix& prefix : prefixes) {
      const std::vector<float> row = LogProbabilities(seed, prefix);
      rows.values.insert(rows.values.end(), row.begin(), row.end());
    }
    return rows;
  };
}

// Every text of at most `limit` tokens, the best first, by the formula.
std::vector<Hypothesis> All(uint64_t seed, int64_t text, int64_t limit, const BeamOptions& options) {
  std::vector<Hypothesis> all;
  const std::function<void(const Hypothesis&)> visit = [&](const Hypothesis& before) {
    const auto n = static_cast<int64_t>(before.ids.size());
    const auto add = [&](Hypothesis whole, int64_t tokens) {
      whole.score = whole.log_probability / std::pow((5 + static_cast<double>(tokens)) / 6, options.length_penalty);
      all.push_back(std::move(whole));
    };
    if (n == limit && options.at_limit == BeamOptions::AtLimit::kIsCut) return add(before, n);
    const std::vector<float> row = LogProbabilities(seed, {text, before.ids});
    Hypothesis ended = before;
    ended.log_probability += row[kEnd];
    ended.ended = true;
    add(ended, n + 1);
    if (n == limit) return;
    for (int32_t token = 1; token < kVocabulary; ++token) {
      Hypothesis longer = before;
      longer.ids.push_back(token);
      longer.log_probability += row[static_cast<size_t>(token)];
      visit(longer);
    }
  };
  visit({});
  std::sort(all.begin(), all.end(), [](const Hypothesis& a, const Hypothesis& b) { return a.score > b.score; });
  return all;
}

void ExpectSame(const std::vector<Hypothesis>& found, const std::vector<Hypothesis>& expected) {
  ASSERT_LE(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].ids, expected[i].ids) << i;
    EXPECT_EQ(found[i].ended, expected[i].ended) << i;
    EXPECT_NEAR(found[i].score, expected[i].score, 1e-6) << i;
    EXPECT_NEAR(found[i].log_probability, expected[i].log_probability, 1e-6) << i;
  }
}

// A beam that holds every text finds the best of all, for texts of several limits at once.
TEST(BeamSearch, OfEveryBeginningIsTheExhaustiveSearch) {
  const std::vector<int64_t> limits = {3, 1, 4, 2};
  for (const auto at_limit : {BeamOptions::AtLimit::kEnds, BeamOptions::AtLimit::kIsCut}) {
    for (const double length_penalty : {0.0, 0.6, 1.0, 3.0}) {
      for (uint64_t seed = 0; seed < 20; ++seed) {
        const BeamOptions options = {
            .beam = 200, .top = 4, .length_penalty = length_penalty, .end = kEnd, .at_limit = at_limit};
        const auto found = BeamSearch(limits, Network(seed), options);
        ASSERT_EQ(found.size(), limits.size());
        for (size_t i = 0; i < limits.size(); ++i) {
          SCOPED_TRACE(testing::Message() << "seed " << seed << ", text " << i << ", penalty " << length_penalty);
          ASSERT_EQ(found[i].size(), 4u);
          ExpectSame(found[i], All(seed, static_cast<int64_t>(i), limits[i], options));
        }
      }
    }
  }
}

TEST(BeamSearch, OfOneIsGreedy) {
  for (const auto at_limit : {BeamOptions::AtLimit::kEnds, BeamOptions::AtLimit::kIsCut}) {
    for (uint64_t seed = 0; seed < 200; ++seed) {
      const int64_t limit = 6;
      std::vector<int32_t> ids;
      bool ended = false;
      while (static_cast<int64_t>(ids.size()) < limit && !ended) {
        const std::vector<float> row = LogProbabilities(seed, {0, ids});
        const auto best = static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
        ended = best == kEnd;
        if (!ended) ids.push_back(best);
      }
      const auto found = BeamSearch(std::vector<int64_t>{limit}, Network(seed),
                                    {.beam = 1, .length_penalty = 2, .end = kEnd, .at_limit = at_limit});
      ASSERT_EQ(found[0].size(), 1u);
      EXPECT_EQ(found[0][0].ids, ids) << seed;
      EXPECT_EQ(found[0][0].ended, ended || at_limit == BeamOptions::AtLimit::kEnds) << seed;
    }
  }
}

// A wider beam's best is better, or as good, on the mean; and what it says of a text is true.
TEST(BeamSearch, WiderIsBetterAndScoresAreTrue) {
  std::vector<double> means;
  for (const int64_t beam : {1, 2, 4, 16}) {
    double sum = 0;
    for (uint64_t seed = 0; seed < 100; ++seed) {
      const BeamOptions options = {.beam = beam, .length_penalty = 0.6, .end = kEnd};
      const Hypothesis best = BeamSearch(std::vector<int64_t>{5}, Network(seed), options)[0].front();
      const std::vector<Hypothesis> all = All(seed, 0, 5, options);
      const auto same = std::find_if(all.begin(), all.end(), [&](const Hypothesis& h) { return h.ids == best.ids; });
      ASSERT_NE(same, all.end());
      ExpectSame({best}, {*same});
      sum += best.score;
    }
    means.push_back(sum);
  }
  EXPECT_TRUE(std::is_sorted(means.begin(), means.end()));
  EXPECT_GT(means.back(), means.front() + 1);
}

TEST(BeamSearch, TextsDoNotMeetEachOther) {
  const std::vector<int64_t> limits = {4, 6, 2};
  const BeamOptions options = {.beam = 3, .top = 2, .length_penalty = 0.6, .end = kEnd};
  const auto together = BeamSearch(limits, Network(7), options);
  for (size_t i = 0; i < limits.size(); ++i) {
    const auto alone = [&](std::span<const Prefix> prefixes) {
      std::vector<Prefix> moved(prefixes.begin(), prefixes.end());
      for (Prefix& prefix : moved) prefix.text = static_cast<int64_t>(i);
      return Network(7)(moved);
    };
    ExpectSame(BeamSearch(std::span(limits).subspan(i, 1), alone, options)[0], together[i]);
  }
  EXPECT_TRUE(BeamSearch({}, Network(7), options).empty());
}

// Ids beyond the vocabulary are never written, and with nothing left there is no text.
TEST(BeamSearch, ForbiddenTokens) {
  const BeamOptions options = {.beam = 100, .top = 100, .end = kEnd, .vocabulary = 3};
  const auto found = BeamSearch(std::vector<int64_t>{3}, Network(1), options);
  EXPECT_EQ(found[0].size(), 1u + 2 + 4 + 8);
  for (const Hypothesis& hypothesis : found[0])
    EXPECT_EQ(std::count(hypothesis.ids.begin(), hypothesis.ids.end(), 3), 0);
  const auto nothing = [](std::span<const Prefix> prefixes) {
    return Rows{.columns = 2, .values = std::vector<float>(2 * prefixes.size(), -INFINITY)};
  };
  EXPECT_TRUE(BeamSearch(std::vector<int64_t>{3}, nothing, {.end = kEnd})[0].empty());
}

// What a network says that knows some beginnings: the probabilities of the tokens behind each; others go on for ever.
NextToken Knows(const std::map<std::vector<int32_t>, std::vector<double>>& known, int* calls = nullptr) {
  return [=](std::span<const Prefix> prefixes) {
    if (calls != nullptr) ++*calls;
    Rows rows = {.columns = kVocabulary};
    for (const Prefix& prefix : prefixes) {
      const auto found = known.find({prefix.ids.begin(), prefix.ids.end()});
      const std::vector<double> p = found == known.end() ? std::vector<double>{1e-9, 0.3, 0.3, 0.4} : found->second;
      for (const double x : p) rows.values.push_back(static_cast<float>(std::log(x)));
    }
    return rows;
  };
}

// It is over when nothing that is open can get better than what is kept, long before the limit.
TEST(BeamSearch, StopsWhenNothingCanGetBetter) {
  int calls = 0;
  const NextToken next = Knows(
      {{{}, {1e-9, 0.9, 0.05, 0.05}}, {{1}, {1e-9, 0.9, 0.05, 0.05}}, {{1, 1}, {0.98, 0.01, 5e-3, 5e-3}}}, &calls);
  const auto found = BeamSearch(std::vector<int64_t>{50}, next, {.beam = 4, .end = kEnd});
  EXPECT_EQ(found[0].front().ids, (std::vector<int32_t>{1, 1}));
  EXPECT_EQ(calls, 3);
}

// Where one of the beam ends, another takes its place among the open ones.
TEST(BeamSearch, WhatEndsMakesRoom) {
  const NextToken next = Knows({{{}, {0.5, 0.3, 0.15, 0.05}}, {{2}, {0.97, 0.01, 0.01, 0.01}}});
  const auto found = BeamSearch(std::vector<int64_t>{50}, next, {.beam = 2, .top = 2, .end = kEnd});
  ASSERT_EQ(found[0].size(), 2u);
  EXPECT_EQ(found[0][0].ids, std::vector<int32_t>());
  EXPECT_EQ(found[0][1].ids, (std::vector<int32_t>{2}));
}

}  // namespace
}  // namespace trefoil
