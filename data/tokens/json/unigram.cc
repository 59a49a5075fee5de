#include "data/tokens/json/unigram.h"

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "data/text/utf8.h"

namespace trefoil {
namespace {

constexpr double kUnknownPenalty = 10;

// Tokens by their bytes, from the first on.
class Trie {
 public:
  void Add(std::string_view token, int32_t id) {
    uint32_t node = 0;
    for (const char c : token) {
      const auto [child, added] = children_.try_emplace(EdgeOf(node, c), static_cast<uint32_t>(ids_.size()));
      if (added) ids_.push_back(-1);
      node = child->second;
    }
    ids_[node] = id;
  }
  // Calls found(bytes, id) for each token that begins `text`, the shortest first.
  template <typename Found>
  void Find(std::string_view text, const Found& found) const {
    uint32_t node = 0;
    for (size_t at = 0; at < text.size(); ++at) {
      const auto child = children_.find(EdgeOf(node, text[at]));
      if (child == children_.end()) return;
      node = child->second;
      if (ids_[node] >= 0) found(at + 1, ids_[node]);
    }
  }

 private:
  static uint64_t EdgeOf(uint32_t node, char c) {
    return static_cast<uint64_t>(node) << 8 | static_cast<unsigned char>(c);
  }

  absl::flat_hash_map<uint64_t, uint32_t> children_;
  std::vector<int32_t> ids_ = {-1};  // of each node
};

class Unigram : public TokenModel {
 public:
  Unigram(Vocabulary vocabulary, std::vector<double> scores, int32_t unknown, bool byte_fallback)
      : TokenModel(std::move(vocabulary)),
        scores_(std::move(scores)),
        unknown_(unknown),
        byte_fallback_(byte_fallback),
        bytes_(FindByteTokens(vocabulary_)),
        unknown_score_(*std::min_element(scores_.begin(), scores_.end()) - kUnknownPenalty) {
    for (int32_t id = 0; id < vocabulary_.size(); ++id) {
      if (!vocabulary_.Token(id).empty()) trie_.Add(vocabulary_.Token(id), id);
    }
  }

  std::string name() const override { return "Unigram"; }
  int32_t unknown_id() const override { return unknown_; }
  bool falls_back_on_bytes() const override { return byte_fallback_ && HasAll(bytes_); }

  void Encode(std::string_view piece, std::vector<int32_t>* ids) const override {
    struct Best {
      double score = 0;
      int32_t id = -1;
      int64_t begin = -1;  // of the token that ends here; -1: nothing does yet
    };
    std::vector<Best> best(piece.size() + 1);
    size_t character = 0;
    for (size_t begin = 0; begin < piece.size(); begin += character) {
      const double so_far = best[begin].score;
      character = Utf8Length(piece.substr(begin));
      bool alone = false;  // some token is this one character
      const auto offer = [&](size_t bytes, int32_t id, double score) {
        Best& end = best[begin + bytes];
        if (end.begin < 0 || so_far + score > end.score) {
          end = {.score = so_far + score, .id = id, .begin = static_cast<int64_t>(begin)};
        }
      };
      trie_.Find(piece.substr(begin), [&](size_t bytes, int32_t id) {
        offer(bytes, id, scores_[id]);
        alone = alone || bytes == character;
      });
      if (!alone) offer(character, unknown_, unknown_score_);
    }
    std::vector<std::pair<size_t, size_t>> tokens;  // from the last on
    bool fuses = false;
    for (size_t end = piece.size(); end > 0;) {
      const Best& last = best[end];
      const auto begin = static_cast<size_t>(last.begin);
      const bool unknown = last.id == unknown_;
      if (unknown && fuses) {
        tokens.back().first = begin;
      } else {
        tokens.emplace_back(begin, end);
      }
      fuses = unknown;
      end = begin;
    }
    for (auto token = tokens.rbegin(); token != tokens.rend(); ++token) {
      AddToken(piece.substr(token->first, token->second - token->first), ids);
    }
  }

 private:
  void AddToken(std::string_view token, std::vector<int32_t>* ids) const {
    if (const int32_t id = vocabulary_.Find(token); id >= 0) return ids->push_back(id);
    const bool spelled = byte_fallback_ && std::all_of(token.begin(), token.end(), [&](char c) {
                           return bytes_[static_cast<unsigned char>(c)] >= 0;
                         });
    if (!spelled) return ids->push_back(unknown_);
    for (const char c : token) ids->push_back(bytes_[static_cast<unsigned char>(c)]);
  }

  const std::vector<double> scores_;
  const int32_t unknown_;
  const bool byte_fallback_;
  const ByteTokens bytes_;
  const double unknown_score_;
  Trie trie_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TokenModel>> ParseUnigram(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "unk_id", "vocab", "byte_fallback"}));
  TREFOIL_ASSIGN_OR_RETURN(const bool byte_fallback, value.Get("byte_fallback").Bool(false));
  TREFOIL_ASSIGN_OR_RETURN(const auto items, value.Get("vocab").Items());
  Vocabulary vocabulary;
  std::vector<double> scores;
  for (const JsonValue& item : items) {
    const nlohmann::json& pair = item.raw();
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_number()) {
      return item.Refuse("must be a token and its log probability, as [\"a\", -2.5]");
    }
    if (!vocabulary.Add(pair[0].get<std::string>(), static_cast<int64_t>(scores.size()))) {
      return item.Refuse("a token that is there twice, or one too many");
    }
    scores.push_back(pair[1].get<double>());
  }
  TREFOIL_ASSIGN_OR_RETURN(const int64_t unknown, value.Get("unk_id").Integer());
  if (unknown < 0 || unknown >= vocabulary.size()) return value.Get("unk_id").Refuse("is not an id of model.vocab");
  return std::make_unique<Unigram>(std::move(vocabulary), std::move(scores), static_cast<int32_t>(unknown),
                                   byte_fallback);
}

}  // namespace trefoil
