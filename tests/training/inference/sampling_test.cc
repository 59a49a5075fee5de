#include "training/inference/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "training/inference/stop_strings.h"

namespace trefoil {
namespace {

std::vector<double> Softmax(const std::vector<float>& logits, double temperature = 1) {
  std::vector<double> p;
  for (const float x : logits) p.push_back(std::exp(x / temperature));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
  return p;
}

// How often each token is chosen over many positions.
std::vector<int> Histogram(const std::vector<float>& logits, const Sampling& sampling, int draws, uint64_t seed = 3) {
  std::vector<int> counts(logits.size());
  for (int i = 0; i < draws; ++i) {
    const int32_t token = ChooseToken(logits, sampling, seed, static_cast<uint64_t>(i));
    EXPECT_TRUE(token >= 0 && static_cast<size_t>(token) < logits.size());
    ++counts[static_cast<size_t>(token)];
  }
  return counts;
}

double ChiSquare(const std::vector<int>& counts, const std::vector<double>& p, int draws) {
  double sum = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (p[i] > 0) sum += std::pow(counts[i] - draws * p[i], 2) / (draws * p[i]);
  }
  return sum;
}

const std::vector<float> kLogits = {0.5f, -1.0f, 2.0f, 0.0f, 1.5f, 2.0f, -3.0f, 1.0f};

TEST(ChooseToken, DrawsFromTheSoftmax) {
  constexpr int kDraws = 20000;
  // 7 degrees of freedom: above 29.9 once in 10 000 seeds.
  EXPECT_LT(ChiSquare(Histogram(kLogits, {}, kDraws), Softmax(kLogits), kDraws), 29.9);
  EXPECT_LT(ChiSquare(Histogram(kLogits, {.temperature = 0.5f}, kDraws), Softmax(kLogits, 0.5), kDraws), 29.9);
  EXPECT_LT(ChiSquare(Histogram(kLogits, {.temperature = 2}, kDraws), Softmax(kLogits, 2), kDraws), 29.9);
  // Logits of any size.
  std::vector<float> large = kLogits;
  for (float& x : large) x += 5000;
  EXPECT_EQ(Histogram(large, {}, 1000), Histogram(kLogits, {}, 1000));
}

TEST(ChooseToken, TopKAndTopPKeepTheLikeliestAndTheirProportions) {
  constexpr int kDraws = 20000;
  std::vector<double> p = Softmax(kLogits);
  for (const size_t gone : {0, 1, 3, 6, 7}) p[gone] = 0;  // 2 and 5, then 4, are the likeliest
  const double sum = p[2] + p[4] + p[5];
  for (double& x : p) x /= sum;
  // 2 degrees of freedom: above 18.4 once in 10 000 seeds.
  const std::vector<int> top_k = Histogram(kLogits, {.top_k = 3}, kDraws);
  EXPECT_LT(ChiSquare(top_k, p, kDraws), 18.4);
  // 2 and 5 together have 0.56 of the probability, with 4 0.73.
  const std::vector<int> top_p = Histogram(kLogits, {.top_p = 0.7f}, kDraws);
  EXPECT_LT(ChiSquare(top_p, p, kDraws), 18.4);
  for (const size_t gone : {0, 1, 3, 6, 7}) EXPECT_EQ(top_k[gone] + top_p[gone], 0) << gone;
  const std::vector<int> two = Histogram(kLogits, {.top_p = 0.5f}, 1000);
  EXPECT_EQ(two[2] + two[5], 1000);
  EXPECT_GT(std::min(two[2], two[5]), 400);
  // Of what top_k leaves.
  const std::vector<int> both = Histogram(kLogits, {.top_k = 3, .top_p = 0.9f}, 1000);
  EXPECT_EQ(both[2] + both[4] + both[5], 1000);
  EXPECT_GT(both[4], 0);
  EXPECT_EQ(Histogram(kLogits, {.top_k = 100}, 1000), Histogram(kLogits, {}, 1000));
}

TEST(ChooseToken, TakesTheLikeliestWhereNothingIsLeftToChance) {
  for (uint64_t position = 0; position < 100; ++position) {
    EXPECT_EQ(ChooseToken(kLogits, {.temperature = 0}, position, position), 2) << "the first of equals";
    EXPECT_EQ(ChooseToken(kLogits, {.top_k = 1}, position, position), 2);
    EXPECT_EQ(ChooseToken(kLogits, {.top_p = 1e-6f}, position, position), 2);
    EXPECT_EQ(ChooseToken(std::vector<float>{-7}, {}, position, position), 0);
  }
}

TEST(ChooseToken, IsAFunctionOfSeedAndPosition) {
  const std::vector<float> flat(1000, 0.0f);
  std::vector<int32_t> first, second, other;
  for (uint64_t i = 0; i < 20; ++i) {
    first.push_back(ChooseToken(flat, {}, 1, i));
    second.push_back(ChooseToken(flat, {}, 1, i));
    other.push_back(ChooseToken(flat, {}, 2, i));
  }
  EXPECT_EQ(first, second);
  EXPECT_NE(first, other);
  EXPECT_GT(std::set<int32_t>(first.begin(), first.end()).size(), 15u);
}

// Whatever pieces a text comes in: it is cut before the string that is complete first, and nothing of it is given out.
TEST(StopStrings, CutAcrossPieces) {
  const std::vector<std::string> stops = {"abcd", "cde", "\n\n", "aab"};
  const auto cut = [&](const std::string& text) {
    for (size_t end = 1; end <= text.size(); ++end) {
      size_t first = std::string::npos;
      for (const std::string& stop : stops) {
        if (text.substr(0, end).ends_with(stop)) first = std::min(first, end - stop.size());
      }
      if (first != std::string::npos) return std::pair(text.substr(0, first), true);
    }
    return std::pair(text, false);
  };
  uint32_t state = 5;
  const auto random = [&](uint32_t below) { return (state = state * 1664525 + 1013904223) / 65536 % below; };
  int cuts = 0;
  for (int trial = 0; trial < 20000; ++trial) {
    std::string text;
    for (uint32_t n = random(14); n > 0; --n) text += "abcde\n"[random(6)];
    StopStrings stop(stops);
    std::string given;
    for (size_t at = 0; at < text.size() && !stop.stopped();) {
      const size_t size = 1 + random(5);
      given += stop.Add(std::string_view(text).substr(at, size));
      at += size;
      EXPECT_TRUE(cut(text).first.starts_with(given)) << text << " gave " << given;
    }
    if (!stop.stopped()) given += stop.End();
    EXPECT_EQ(given, cut(text).first) << text;
    EXPECT_EQ(stop.stopped(), cut(text).second) << text;
    cuts += stop.stopped() ? 1 : 0;
  }
  EXPECT_GT(cuts, 100);
}

}  // namespace
}  // namespace trefoil
