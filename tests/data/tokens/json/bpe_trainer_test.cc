#include "data/tokens/json/bpe_trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "data/tokens/tokenizer.h"
#include "tests/data/tokens/json/golden_tokenizers.h"

namespace trefoil {
namespace {

using Pair = std::pair<int32_t, int32_t>;

WordCounts Counted(const WordCounter::Options& options) {
  WordCounter counter(options);
  for (size_t k = 0; k < Golden().at("generated"); ++k) counter.Add(GeneratedText(k));
  return counter.Take();
}

TEST(BpeTrainer, LearnsWhatTheTokenizersPackageLearns) {
  const auto expected = Golden().at("trained").get<std::vector<std::string>>();
  ASSERT_GE(expected.size(), 400u);
  const auto files = TrainByteBpe(Counted({}), 257 + static_cast<int64_t>(expected.size()));
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(nlohmann::json::parse(files->content).at("model").at("merges").get<std::vector<std::string>>(), expected);
}

TEST(BpeTrainer, WhatItWritesIsATokenizer) {
  const auto files = TrainByteBpe(Counted({}), 500);
  ASSERT_TRUE(files.ok()) << files.status();
  auto tokenizer = Tokenizer::Of(*files, "trained");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(tokenizer->vocabulary(), 500);
  EXPECT_EQ(tokenizer->end_of_text(), 0);
  EXPECT_TRUE(tokenizer->exact());
  std::minstd_rand random(3);
  for (size_t k = 300; k < 400; ++k) {
    std::string text = GeneratedText(k);
    if (text.find("<|") != std::string::npos) continue;
    EXPECT_LT(tokenizer->Encode(text).size(), text.size() + 1);
    for (int i = 0; i < 3; ++i) text.insert(random() % (text.size() + 1), 1, static_cast<char>(random() % 256));
    EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text)), text);
  }
}

TEST(WordCounter, CountsAreThoseOfOneThread) {
  const WordCounts one = Counted({});
  ASSERT_GT(one.size(), 300u);
  const std::map<std::string, int64_t> counts(one.begin(), one.end());
  EXPECT_EQ(counts.size(), one.size()) << "each word once";
  EXPECT_GT(counts.at(" the"), 10);
  EXPECT_EQ(counts.count("123"), 1u) << "three digits";
  EXPECT_EQ(counts.count("1234567"), 0u);
  for (const int threads : {2, 5}) {
    EXPECT_EQ(Counted({.threads = threads}), one);
    EXPECT_EQ(Counted({.threads = threads, .batch_bytes = 1000}), one);
  }
}

TEST(WordCounter, ForgetsTheRarestAndNoOthers) {
  const WordCounts all = Counted({}), some = Counted({.most = 200, .batch_bytes = 2000});
  EXPECT_LE(some.size(), 200u);
  EXPECT_EQ(Counted({.threads = 3, .most = 200, .batch_bytes = 2000}), some);
  const std::map<std::string, int64_t> kept(some.begin(), some.end());
  int frequent = 0;
  for (const auto& [word, count] : all) {
    if (count >= 40) {
      ++frequent;
      EXPECT_EQ(kept.count(word), 1u) << word;
    }
    if (kept.count(word) > 0) {
      EXPECT_LE(kept.at(word), count);
    }
  }
  EXPECT_GT(frequent, 8);
}

TEST(WordCounter, LeavesOutLongWordsAndOddBytes) {
  WordCounter counter({});
  counter.Add(std::string(257, 'x') + " a\xff\xff b" + std::string(254, 'y') + " b" + std::string(255, 'y'));
  EXPECT_EQ(counter.Take(), (WordCounts{{" a", 1}, {" b" + std::string(254, 'y'), 1}}));
}

// Counting all pairs anew before each merge.
std::vector<Pair> SlowMerges(const WordCounts& words, size_t merges) {
  std::vector<std::pair<std::vector<int32_t>, int64_t>> split;
  for (const auto& [word, count] : words) {
    split.emplace_back();
    for (const char byte : word) split.back().first.push_back(1 + (byte - '!'));  // those of ASCII are in order
    split.back().second = count;
  }
  std::vector<Pair> learnt;
  while (learnt.size() < merges) {
    std::map<Pair, int64_t> counts;
    for (const auto& [symbols, count] : split) {
      for (size_t i = 0; i + 1 < symbols.size(); ++i) counts[{symbols[i], symbols[i + 1]}] += count;
    }
    Pair best;
    int64_t most = 1;
    for (const auto& [pair, count] : counts) {
      if (count > most) std::tie(best, most) = std::pair(pair, count);
    }
    if (most < 2) break;
    for (auto& [symbols, count] : split) {
      std::vector<int32_t> merged;
      for (size_t i = 0; i < symbols.size(); ++i) {
        const bool found = i + 1 < symbols.size() && Pair(symbols[i], symbols[i + 1]) == best;
        merged.push_back(found ? 257 + static_cast<int32_t>(learnt.size()) : symbols[i]);
        if (found) ++i;
      }
      symbols = std::move(merged);
    }
    learnt.push_back(best);
  }
  return learnt;
}

// Words of few letters, so that pairs overlap themselves.
TEST(BpeTrainer, CountsAreKeptUp) {
  std::minstd_rand random(7);
  for (int round = 0; round < 60; ++round) {
    std::map<std::string, int64_t> words;
    for (int i = 0; i < 30; ++i) {
      std::string word;
      for (int letters = 1 + static_cast<int>(random() % 20); letters > 0; --letters) {
        word += static_cast<char>('a' + random() % (1 + round % 4));
      }
      words[word] += 1 + static_cast<int64_t>(random() % 5);
    }
    const WordCounts counts(words.begin(), words.end());
    EXPECT_EQ(LearnMerges(counts, 60), SlowMerges(counts, 60)) << round;
  }
}

TEST(BpeTrainer, ErrorsSayTheBound) {
  const auto small = TrainByteBpe(Counted({}), 257);
  ASSERT_FALSE(small.ok());
  EXPECT_THAT(small.status().message(),
              testing::HasSubstr("vocabulary: 257: the 256 bytes and the end of text take 257; must be in [258"));
  const auto large = TrainByteBpe({{"abab", 1}, {"ab", 1}}, 300);
  ASSERT_FALSE(large.ok());
  EXPECT_THAT(large.status().message(),
              testing::HasSubstr("vocabulary: 300: the text supports no more than 258 pieces"));
}

}  // namespace
}  // namespace trefoil
