#include "data/text/text_scores.h"

#include <absl/strings/str_join.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

namespace trefoil {
namespace {

// sacreBLEU's own numbers: tests/golden/make_text_scores.py.
class TextScores : public testing::Test {
 protected:
  void SetUp() override {
    std::ifstream file("tests/golden/text_scores.json");
    ASSERT_TRUE(file.good());
    golden_ = nlohmann::json::parse(file);
    for (const auto& pair : golden_["pairs"]) {
      hypotheses_.push_back(pair[0]);
      references_.push_back(pair[1]);
    }
    ASSERT_GE(hypotheses_.size(), 300u);
  }

  nlohmann::json golden_;
  std::vector<std::string> hypotheses_, references_;
};

constexpr double kNear = 1e-9;  // of 100

TEST_F(TextScores, TokensAreThoseOf13a) {
  for (const auto& text : golden_["tokens"]) {
    EXPECT_EQ(absl::StrJoin(Tokenize13a(text[0].get<std::string>()), " "), text[1].get<std::string>()) << text[0];
  }
}

TEST_F(TextScores, EachPairAsACorpusOfItsOwn) {
  for (size_t i = 0; i < hypotheses_.size(); ++i) {
    const auto hypothesis = std::span(hypotheses_).subspan(i, 1), reference = std::span(references_).subspan(i, 1);
    EXPECT_NEAR(CorpusBleu(hypothesis, reference).score, golden_["pairs"][i][2].get<double>(), kNear) << i;
    EXPECT_NEAR(CorpusChrf(hypothesis, reference), golden_["pairs"][i][3].get<double>(), kNear) << i;
  }
}

TEST_F(TextScores, Corpora) {
  for (const auto& corpus : golden_["corpora"]) {
    const size_t first = corpus["first"], count = corpus["last"].get<size_t>() - first;
    const auto hypotheses = std::span(hypotheses_).subspan(first, count);
    const auto references = std::span(references_).subspan(first, count);
    const BleuScore bleu = CorpusBleu(hypotheses, references);
    EXPECT_NEAR(bleu.score, corpus["bleu"].get<double>(), kNear) << corpus;
    EXPECT_NEAR(bleu.brevity_penalty, corpus["brevity_penalty"].get<double>(), kNear) << corpus;
    for (size_t n = 0; n < bleu.precisions.size(); ++n) {
      EXPECT_NEAR(bleu.precisions[n], corpus["precisions"][n].get<double>(), kNear) << corpus;
    }
    EXPECT_NEAR(CorpusChrf(hypotheses, references), corpus["chrf"].get<double>(), kNear) << corpus;
  }
}

TEST(TextScoresByHand, CountsAndPenalty) {
  // Papineni et al., section 2.1: "the" is counted twice, as the reference has it.
  const BleuScore clipped = CorpusBleu({{"the the the the the the the"}}, {{"The cat is on the mat the"}});
  EXPECT_EQ(clipped.matches[0], 2);
  EXPECT_EQ(clipped.ngrams, (std::array<int64_t, 4>{7, 6, 5, 4}));
  EXPECT_EQ(clipped.brevity_penalty, 1);
  const BleuScore shorter = CorpusBleu({{"a b c d"}}, {{"a b c d e f"}});
  EXPECT_DOUBLE_EQ(shorter.brevity_penalty, std::exp(1 - 6.0 / 4));
  EXPECT_DOUBLE_EQ(shorter.score, 100 * shorter.brevity_penalty);
  EXPECT_EQ(CorpusBleu({}, {}).score, 0);
  EXPECT_EQ(CorpusChrf({}, {}), 0);
}

TEST(TextScoresByHand, BytesThatAreNoTextAreCharacters) {
  EXPECT_NEAR(CorpusChrf({{"caf\xe9"}}, {{"caf\xe9"}}), 100, kNear);
  EXPECT_LT(CorpusChrf({{"caf\xe9"}}, {{"caf\xe8"}}), 100);
}

}  // namespace
}  // namespace trefoil
