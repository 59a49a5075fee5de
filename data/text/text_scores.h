// How near texts are to their references: BLEU and chrF, the numbers that sacreBLEU 2 prints by default.
//
//   const BleuScore bleu = CorpusBleu(translations, references);    // bleu.score: 0 to 100
//   const double chrf = CorpusChrf(translations, references);       // 0 to 100
//
// Both are of a whole corpus: counts are added over all pairs before anything is divided, so they are no mean of the
// pairs' scores. One reference each.
//
// BLEU (Papineni, Roukos, Ward & Zhu, "BLEU: a method for automatic evaluation of machine translation", ACL 2002):
//
//   BLEU = BP exp(1/4 sum over n = 1..4 of log p_n),   BP = exp(min(0, 1 - reference tokens / hypothesis tokens))
//
// p_n is the share of the hypotheses' n-grams that their references have, each counted at most as often as the
// reference has it. An order without a match gets p_n = 1 / (2^k n-grams), k the number of such orders so far ("exp" of
// Chen & Cherry, "A systematic comparison of smoothing techniques for sentence-level BLEU", WMT 2014, method 3). No
// match at all, or an order without n-grams: 0. sacreBLEU's signature: kBleuSignature.
//
// chrF2 (Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015): from the n-grams of 1 to 6
// characters, spaces left out,
//
//   chrF = (1 + 2^2) P R / (2^2 P + R)
//
// with P and R the means of precision and recall over the orders that both sides have. sacreBLEU's signature: kChrfSignature.
//
// Text is UTF-8; a byte that is not is a character of its own.
//
// Source of the details: Post, "A call for clarity in reporting BLEU scores", WMT 2018, and its program sacreBLEU, held
// against by tests/data/text/text_scores_test.cc.
//
// Threads: pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trefoil {

inline constexpr char kBleuSignature[] = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp";
inline constexpr char kChrfSignature[] = "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no";

struct BleuScore {
  double score = 0;                      // 0 to 100
  double brevity_penalty = 0;            // BP, 0 to 1
  std::array<double, 4> precisions = {};  // p_n in percent, smoothed
  std::array<int64_t, 4> matches = {};   // n-grams, of 1 to 4 tokens
  std::array<int64_t, 4> ngrams = {};    // that the hypotheses have
  int64_t hypothesis_tokens = 0;
  int64_t reference_tokens = 0;
};

// Hypothesis i is about reference i: as many of the one as of the other. None: 0.
BleuScore CorpusBleu(std::span<const std::string> hypotheses, std::span<const std::string> references);
double CorpusChrf(std::span<const std::string> hypotheses, std::span<const std::string> references);

// The tokens that BLEU counts, those of NIST's mteval-v13a: "It's 3.5%, isn't it?" is It's 3.5 % , isn't it ?
std::vector<std::string> Tokenize13a(std::string_view text);

}  // namespace trefoil
