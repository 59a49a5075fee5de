#include "data/tasks/masked_tokens.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include "tests/data/data_testing.h"

namespace trefoil {
namespace {

constexpr int64_t kVocabulary = 1000;
const SpecialTokens kSpecial = EncoderTokens(0, kVocabulary);

// 0 to `tokens` - 1, modulo 1000.
std::string WriteCounting(int64_t tokens) {
  const std::string prefix = TestFolder() + "/train";
  std::vector<int32_t> ids(tokens);
  for (int64_t i = 0; i < tokens; ++i) ids[i] = static_cast<int32_t>(i % kVocabulary);
  WriteDocuments(prefix, {ids}, kVocabulary);
  return prefix;
}

std::unique_ptr<Loader> OpenText(const std::string& prefix, int64_t length, uint64_t seed = 7) {
  auto loader = Loader::Open({prefix}, MaskedTokens::TextLength(length), kVocabulary, seed);
  EXPECT_TRUE(loader.ok()) << loader.status();
  return *std::move(loader);
}

MaskedTokens Masked(const std::string& prefix, int64_t length, MaskingOptions options = {}, uint64_t seed = 7) {
  return MaskedTokens(OpenText(prefix, length, seed), kSpecial, kVocabulary, seed, std::move(options));
}

TEST(SpecialTokens, LieRightBehindTheVocabulary) {
  EXPECT_EQ(kSpecial.padding, 0);
  EXPECT_EQ(kSpecial.begin, 1000);
  EXPECT_EQ(kSpecial.separator, 1001);
  EXPECT_EQ(kSpecial.mask, 1002);
  EXPECT_EQ(kSpecial.first_sentinel, -1);
  const SpecialTokens sentinels = SentinelTokens(3, 50);
  EXPECT_EQ(sentinels.padding, 3);
  EXPECT_EQ(sentinels.first_sentinel, 50);
  EXPECT_EQ(sentinels.mask, -1);
}

TEST(Draws, ChooseWithoutReplacementEvenly) {
  constexpr int kSamples = 30000;
  std::vector<int> counts(6);
  for (int sample = 0; sample < kSamples; ++sample) {
    Draws draws(RandomKey(1, "test"), sample);
    const auto chosen = draws.Choose(2, 3);
    ASSERT_NE(chosen[0], chosen[1]);
    ++counts[chosen[0] * 2 + (chosen[1] > chosen[0] ? chosen[1] - 1 : chosen[1])];
  }
  for (const int count : counts) EXPECT_NEAR(count, kSamples / 6, 5 * std::sqrt(kSamples / 6.0));
}

TEST(MaskedTokens, HidesTheChosenPlacesAndNoOther) {
  const std::string prefix = WriteCounting(5000);
  const MaskedTokens masked = Masked(prefix, 128);
  const auto text = OpenText(prefix, 128);
  EXPECT_EQ(masked.length(), 128);
  EXPECT_EQ(masked.targets(), 19);  // 0.15 * 126 = 18.9
  EXPECT_EQ(masked.samples(), text->samples());
  EXPECT_FALSE(masked.weighted());
  const auto batch = masked.Get(3, 40);  // beyond the first epoch too
  ASSERT_TRUE(batch.ok()) << batch.status();
  EXPECT_EQ(batch->first_sample, 3);
  EXPECT_EQ(batch->length, 128);
  EXPECT_EQ(batch->inputs.shape(), (Shape{40, 128}));
  EXPECT_EQ(batch->targets.shape(), (Shape{40, 19}));
  EXPECT_FALSE(batch->weights.defined());
  EXPECT_FALSE(batch->lengths.defined());
  for (int64_t row = 0; row < 40; ++row) {
    std::vector<int32_t> expected(126);
    ASSERT_TRUE(text->ReadSample(3 + row, expected).ok());
    const auto input = Row(batch->inputs, row), places = Row(batch->places, row), targets = Row(batch->targets, row);
    EXPECT_EQ(input.front(), kSpecial.begin);
    EXPECT_EQ(input.back(), kSpecial.separator);
    EXPECT_TRUE(std::is_sorted(places.begin(), places.end()));
    EXPECT_EQ(std::set<int32_t>(places.begin(), places.end()).size(), 19u);
    for (int u = 0; u < 19; ++u) {
      ASSERT_GE(places[u], 1);
      ASSERT_LE(places[u], 126);
      EXPECT_EQ(targets[u], expected[places[u] - 1]);
    }
    for (int32_t t = 1; t <= 126; ++t) {
      if (std::binary_search(places.begin(), places.end(), t)) continue;
      EXPECT_EQ(input[t], expected[t - 1]);
    }
  }
}

TEST(MaskedTokens, EightyTenTen) {
  const MaskedTokens masked = Masked(WriteCounting(20000), 100, {.rate = 0.5});
  const auto batch = masked.Get(0, 1000);
  ASSERT_TRUE(batch.ok());
  double masks = 0, same = 0, random = 0, sum_of_random = 0;
  std::vector<int> at(100);
  for (int64_t row = 0; row < 1000; ++row) {
    const auto input = Row(batch->inputs, row), places = Row(batch->places, row), targets = Row(batch->targets, row);
    for (size_t u = 0; u < places.size(); ++u) {
      const int32_t now = input[places[u]];
      ++at[places[u]];
      if (now == kSpecial.mask) {
        ++masks;
      } else if (now == targets[u]) {
        ++same;
      } else {
        ++random;
        sum_of_random += now;
        ASSERT_GT(now, 0) << "the end of text is special";
        ASSERT_LT(now, kVocabulary);
      }
    }
  }
  const double all = 49 * 1000;
  EXPECT_NEAR(masks / all, 0.8, 0.01);
  EXPECT_NEAR(same / all, 0.1, 0.01);
  EXPECT_NEAR(random / all, 0.1, 0.01);
  EXPECT_NEAR(sum_of_random / random, 500, 15);
  EXPECT_EQ(at[0] + at[99], 0);
  for (int t = 1; t <= 98; ++t) EXPECT_NEAR(at[t], 500, 5 * std::sqrt(250.0));
}

TEST(MaskedTokens, AreAFunctionOfSeedAndSample) {
  const std::string prefix = WriteCounting(500);
  const auto whole = Masked(prefix, 32).Get(0, 40);
  const auto part = Masked(prefix, 32).Get(17, 5);
  ASSERT_TRUE(whole.ok() && part.ok());
  for (int64_t row = 0; row < 5; ++row) {
    EXPECT_EQ(Row(part->inputs, row), Row(whole->inputs, 17 + row));
    EXPECT_EQ(Row(part->places, row), Row(whole->places, 17 + row));
    EXPECT_EQ(Row(part->targets, row), Row(whole->targets, 17 + row));
  }
  EXPECT_NE(Masked(prefix, 32, {}, 8).Get(0, 40)->places.values<int32_t>(), whole->places.values<int32_t>());
  // One text in all: each epoch hides other places of it.
  const std::string single = WriteCounting(30);
  const auto epochs = Masked(single, 32).Get(0, 2);
  EXPECT_NE(Row(epochs->places, 0), Row(epochs->places, 1));
}

// What a resumed run depends on.
TEST(MaskedTokens, TheChoiceIsFrozen) {
  const std::string prefix = WriteCounting(500);
  const auto batch = Masked(prefix, 32, {.rate = 0.2}, 42).Get(1000, 2);
  ASSERT_TRUE(batch.ok());
  EXPECT_EQ(Row(batch->places, 0), (std::vector<int32_t>{4, 6, 9, 12, 23, 30}));
  EXPECT_EQ(Row(batch->places, 1), (std::vector<int32_t>{1, 16, 19, 23, 25, 28}));
  EXPECT_EQ(Row(batch->inputs, 0), (std::vector<int32_t>{1000, 174,  175, 176, 1002, 178, 774, 180, 181,  1002, 183,
                                                         184,  185,  186, 187, 188,  189, 190, 191, 192,  193,  194,
                                                         195,  1002, 197, 198, 199,  200, 201, 202, 1002, 1001}));
}

// Words of 1, 2, 3 ... tokens: an id that is a multiple of 10 begins one, or of 3 between 500 and 600.
std::vector<bool> BeginsWord() {
  std::vector<bool> begins(kVocabulary);
  for (int64_t id = 0; id < kVocabulary; ++id) {
    begins[id] = id % 10 == 0 || (id >= 500 && id < 600 && id % 3 == 0) || id > 900;
  }
  return begins;
}

TEST(MaskedTokens, WholeWords) {
  const std::string prefix = WriteCounting(5000);
  const MaskedTokens masked = Masked(prefix, 128, {.rate = 0.15, .begins_word = BeginsWord()});
  EXPECT_TRUE(masked.weighted());
  const auto begins = BeginsWord();
  const auto text = OpenText(prefix, 128);
  const auto batch = masked.Get(0, 200);
  ASSERT_TRUE(batch.ok());
  double used = 0;
  for (int64_t row = 0; row < 200; ++row) {
    std::vector<int32_t> ids(126);
    ASSERT_TRUE(text->ReadSample(row, ids).ok());
    const auto places = Row(batch->places, row), targets = Row(batch->targets, row);
    const auto weights = Row<float>(batch->weights, row);
    EXPECT_TRUE(std::is_sorted(places.begin(), places.end()));
    std::vector<bool> chosen(126);
    int64_t count = 0;
    for (size_t u = 0; u < 19; ++u) {
      if (weights[u] == 0) {
        EXPECT_EQ(places[u], 127);
        continue;
      }
      EXPECT_EQ(weights[u], 1);
      EXPECT_EQ(targets[u], ids[places[u] - 1]);
      chosen[places[u] - 1] = true;
      ++count;
    }
    ASSERT_GE(count, 1);
    used += static_cast<double>(count);
    // Words are whole, and none that was left out would have found room.
    for (int begin = 0; begin < 126;) {
      int end = begin + 1;
      while (end < 126 && !begins[ids[end]]) ++end;
      for (int t = begin; t < end; ++t) EXPECT_EQ(chosen[t], chosen[begin]) << row << " " << t;
      if (!chosen[begin]) {
        EXPECT_GT(end - begin, 19 - count);
      }
      begin = end;
    }
  }
  EXPECT_GT(used / 200, 15);
}

TEST(MaskedTokens, AWordThatIsLongerThanAllPlacesIsCut) {
  std::vector<bool> begins(kVocabulary);
  begins[0] = true;
  const auto batch = Masked(WriteCounting(500), 32, {.rate = 0.1, .begins_word = begins}).Get(0, 3);
  ASSERT_TRUE(batch.ok());
  for (int64_t row = 0; row < 3; ++row) {
    EXPECT_EQ(Row(batch->places, row), (std::vector<int32_t>{1, 2, 3}));
    EXPECT_EQ(Row<float>(batch->weights, row), (std::vector<float>{1, 1, 1}));
  }
}

TEST(MaskedTokens, OnePlaceAtLeast) { EXPECT_EQ(Masked(WriteCounting(500), 8, {.rate = 0.01}).targets(), 1); }

TEST(MaskedTokens, AFileThatCannotBeReadIsSaid) {
  const std::string prefix = TestFolder() + "/train";
  WriteDocuments(prefix, {std::vector<int32_t>(100, 2000)}, 5000);
  ExpectError(Masked(prefix, 16).Get(0, 1).status(), {prefix, "id 2000"});
}

}  // namespace
}  // namespace trefoil
