#include "data/text/text_scores.h"

#include <absl/strings/str_replace.h>
#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <utility>

#include "data/text/utf8.h"

namespace trefoil {
namespace {

constexpr int kWordOrder = 4;
constexpr int kCharacterOrder = 6;
constexpr double kBeta = 2;

// What Python's str.isspace says, which sacreBLEU goes by.
bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

struct Character {
  char32_t value;
  size_t bytes;
};

// The first of a text that is not empty.
Character FirstOf(std::string_view text) {
  constexpr unsigned char kLeadBits[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
  // A byte that is no character becomes a value beyond Unicode's: equal to itself only.
  constexpr char32_t kBeyond = 0x110000;
  const size_t bytes = Utf8Length(text);
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[i])); };
  if (bytes == 0) return {kBeyond + byte(0), 1};
  char32_t value = byte(0) & kLeadBits[bytes];
  for (size_t i = 1; i < bytes; ++i) value = value << 6 | (byte(i) & 0x3f);
  return {value, bytes};
}

std::vector<std::string> SplitAtSpaces(std::string_view text) {
  std::vector<std::string> words;
  bool inside = false;
  for (Character c; !text.empty(); text.remove_prefix(c.bytes)) {
    c = FirstOf(text);
    if (IsSpace(c.value)) {
      inside = false;
    } else {
      if (!inside) words.emplace_back();
      words.back().append(text.substr(0, c.bytes));
      inside = true;
    }
  }
  return words;
}

std::string_view WithoutSpacesAtItsEnd(std::string_view text) {
  size_t end = 0, at = 0;
  for (Character c; at < text.size(); at += c.bytes) {
    c = FirstOf(text.substr(at));
    if (!IsSpace(c.value)) end = at + c.bytes;
  }
  return text.substr(0, end);
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsPoint(char c) { return c == '.' || c == ','; }
// All of ASCII that is neither letter, digit, control nor one of ' , - .
bool IsSymbol(char c) {
  return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') || (c >= '(' && c <= '+') ||
         (c >= ':' && c <= '@') || c == '/';
}

// Puts `before`, `between` and `after` around the two characters of each pair that `is_pair` picks; pairs do not
// overlap, the first comes first. Bytes do for characters: what is picked is ASCII, and nothing is put inside another
// character.
template <typename IsPair>
std::string SpacePairs(const std::string& text, IsPair is_pair, std::string_view before, std::string_view between,
                       std::string_view after) {
  std::string out;
  out.reserve(text.size() * 5 / 4);
  for (size_t i = 0; i < text.size(); ++i) {
    if (i + 1 < text.size() && is_pair(text[i], text[i + 1])) {
      out.append(before).append(1, text[i]).append(between).append(1, text[i + 1]).append(after);
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

// n-gram -> how often.
template <typename Key>
using Counts = std::unordered_map<Key, int64_t>;

// Of the n-grams in `counts`, those that `others` has too, each as often as both have it.
template <typename Key>
int64_t Matches(const Counts<Key>& counts, const Counts<Key>& others) {
  int64_t matches = 0;
  for (const auto& [key, count] : counts) {
    const auto other = others.find(key);
    if (other != others.end()) matches += std::min(count, other->second);
  }
  return matches;
}

int64_t NgramsIn(size_t length, int n) { return std::max<int64_t>(static_cast<int64_t>(length) - n + 1, 0); }

Counts<std::string> CountWords(const std::vector<std::string>& tokens, int n) {
  Counts<std::string> counts;
  for (int64_t i = 0; i < NgramsIn(tokens.size(), n); ++i) {
    std::string key = tokens[i];
    for (int k = 1; k < n; ++k) key.append(" ").append(tokens[i + k]);  // no token has a space
    ++counts[key];
  }
  return counts;
}

// The keys are parts of `text`.
Counts<std::u32string_view> CountCharacters(std::u32string_view text, int n) {
  Counts<std::u32string_view> counts;
  for (int64_t i = 0; i < NgramsIn(text.size(), n); ++i) ++counts[text.substr(i, n)];
  return counts;
}

std::u32string CharactersWithoutSpaces(std::string_view text) {
  std::u32string characters;
  for (Character c; !text.empty(); text.remove_prefix(c.bytes)) {
    c = FirstOf(text);
    if (!IsSpace(c.value)) characters += c.value;
  }
  return characters;
}

}  // namespace

// The order of the steps is part of the definition: what one puts in, the next one sees.
std::vector<std::string> Tokenize13a(std::string_view text) {
  std::string line(WithoutSpacesAtItsEnd(text));
  for (const auto& [from, to] : {std::pair("<skipped>", ""), {"-\n", ""}, {"\n", " "}, {"&quot;", "\""}, {"&amp;", "&"},
                                 {"&lt;", "<"}, {"&gt;", ">"}}) {
    absl::StrReplaceAll({{from, to}}, &line);
  }
  std::string spaced = " ";
  for (const char c : line + " ") IsSymbol(c) ? spaced.append(" ").append(1, c).append(" ") : spaced.append(1, c);
  // A point or comma belongs to a number only with a digit on either side; a dash after a digit is a token.
  spaced = SpacePairs(spaced, [](char a, char b) { return !IsDigit(a) && IsPoint(b); }, "", " ", " ");
  spaced = SpacePairs(spaced, [](char a, char b) { return IsPoint(a) && !IsDigit(b); }, " ", " ", "");
  spaced = SpacePairs(spaced, [](char a, char b) { return IsDigit(a) && b == '-'; }, "", " ", " ");
  return SplitAtSpaces(spaced);
}

BleuScore CorpusBleu(std::span<const std::string> hypotheses, std::span<const std::string> references) {
  CHECK_EQ(hypotheses.size(), references.size());
  BleuScore bleu;
  for (size_t i = 0; i < hypotheses.size(); ++i) {
    const std::vector<std::string> hypothesis = Tokenize13a(hypotheses[i]), reference = Tokenize13a(references[i]);
    bleu.hypothesis_tokens += static_cast<int64_t>(hypothesis.size());
    bleu.reference_tokens += static_cast<int64_t>(reference.size());
    for (int n = 1; n <= kWordOrder; ++n) {
      bleu.ngrams[n - 1] += NgramsIn(hypothesis.size(), n);
      bleu.matches[n - 1] += Matches(CountWords(hypothesis, n), CountWords(reference, n));
    }
  }
  const double ratio = static_cast<double>(bleu.reference_tokens) / static_cast<double>(bleu.hypothesis_tokens);
  if (bleu.hypothesis_tokens > 0) bleu.brevity_penalty = std::exp(std::min(0.0, 1 - ratio));
  if (bleu.matches[0] == 0) return bleu;
  double smoothing = 1, log_sum = 0;
  for (int n = 0; n < kWordOrder; ++n) {
    if (bleu.ngrams[n] == 0) return bleu;
    const double matches = bleu.matches[n] > 0 ? static_cast<double>(bleu.matches[n]) : 1 / (smoothing *= 2);
    bleu.precisions[n] = 100 * matches / static_cast<double>(bleu.ngrams[n]);
    log_sum += std::log(bleu.precisions[n]);
  }
  bleu.score = bleu.brevity_penalty * std::exp(log_sum / kWordOrder);
  return bleu;
}

double CorpusChrf(std::span<const std::string> hypotheses, std::span<const std::string> references) {
  CHECK_EQ(hypotheses.size(), references.size());
  std::array<int64_t, kCharacterOrder> matches = {}, hypothesis_ngrams = {}, reference_ngrams = {};
  for (size_t i = 0; i < hypotheses.size(); ++i) {
    const std::u32string hypothesis = CharactersWithoutSpaces(hypotheses[i]);
    const std::u32string reference = CharactersWithoutSpaces(references[i]);
    for (int n = 1; n <= kCharacterOrder; ++n) {
      const int64_t in_reference = NgramsIn(reference.size(), n);
      if (in_reference == 0) continue;  // sacreBLEU does not count the hypothesis's either
      reference_ngrams[n - 1] += in_reference;
      hypothesis_ngrams[n - 1] += NgramsIn(hypothesis.size(), n);
      matches[n - 1] += Matches(CountCharacters(hypothesis, n), CountCharacters(reference, n));
    }
  }
  double precision = 0, recall = 0;
  int orders = 0;
  for (int n = 0; n < kCharacterOrder; ++n) {
    if (hypothesis_ngrams[n] == 0 || reference_ngrams[n] == 0) continue;
    precision += static_cast<double>(matches[n]) / static_cast<double>(hypothesis_ngrams[n]);
    recall += static_cast<double>(matches[n]) / static_cast<double>(reference_ngrams[n]);
    ++orders;
  }
  if (precision + recall == 0) return 0;
  precision /= orders;
  recall /= orders;
  return 100 * (1 + kBeta * kBeta) * precision * recall / (kBeta * kBeta * precision + recall);
}

}  // namespace trefoil
