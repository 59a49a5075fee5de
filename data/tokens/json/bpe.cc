#include "data/tokens/json/bpe.h"

#include <absl/container/flat_hash_map.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <bitset>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

#include "data/text/utf8.h"

namespace trefoil {
namespace {

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

struct Options {
  int32_t unknown = -1;
  std::string prefix, suffix;  // of characters inside a piece; of the last one
  bool fuse_unknown = false, byte_fallback = false, ignore_merges = false;
};

struct Merge {
  int32_t rank, id;
};

uint64_t PairOf(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

using Merges = absl::flat_hash_map<uint64_t, Merge>;

// A token of a piece while it is merged; linked, since neighbours vanish.
struct Symbol {
  int32_t id;
  int32_t previous, next;  // -1: none
  bool alive = true;
};

struct Candidate {
  int32_t rank, at, id;  // at: the left symbol
  // Of a heap: the lowest rank is first, then the leftmost.
  bool operator<(const Candidate& other) const { return std::pair(rank, at) > std::pair(other.rank, other.at); }
};

class Bpe : public TokenModel {
 public:
  Bpe(Vocabulary vocabulary, Options options, Merges merges)
      : TokenModel(std::move(vocabulary)),
        options_(std::move(options)),
        merges_(std::move(merges)),
        bytes_(FindByteTokens(vocabulary_)) {
    const bool unknown_fuses = options_.fuse_unknown && options_.unknown >= 0 && !falls_back_on_bytes();
    cuts_ = !options_.ignore_merges && options_.prefix.empty() && options_.suffix.empty() && !unknown_fuses &&
            !MergesBytes();
    for (int32_t id = 0; id < vocabulary_.size(); ++id) {
      const std::string& token = vocabulary_.Token(id);
      for (size_t i = 1; i < token.size(); ++i) joined_.set(BytesOf(token[i - 1], token[i]));
    }
  }

  std::string name() const override { return "BPE"; }
  int32_t unknown_id() const override { return options_.unknown; }
  bool falls_back_on_bytes() const override { return options_.byte_fallback && HasAll(bytes_); }

  // Between two bytes that no token has side by side: merges never reach over such a place.
  void Cut(std::string_view piece, absl::FunctionRef<void(std::string_view)> give) const override {
    if (!cuts_) return give(piece);
    for (size_t at = 0; at < piece.size();) {
      const size_t begin = at++;
      while (at < piece.size() && ((piece[at] & 0xc0) == 0x80 || joined_[BytesOf(piece[at - 1], piece[at])])) ++at;
      give(piece.substr(begin, at - begin));
    }
  }

  void Encode(std::string_view piece, std::vector<int32_t>* ids) const override {
    if (options_.ignore_merges) {
      if (const int32_t whole = vocabulary_.Find(piece); whole >= 0) return ids->push_back(whole);
    }
    std::vector<Symbol>& symbols = symbols_;
    symbols.clear();
    AddCharacters(piece, &symbols);
    MergeAll(&symbols);
    for (const Symbol& symbol : symbols) {
      if (symbol.alive) ids->push_back(symbol.id);
    }
  }

 private:
  static size_t BytesOf(char a, char b) { return static_cast<unsigned char>(a) << 8 | static_cast<unsigned char>(b); }

  bool MergesBytes() const {
    const std::unordered_set<int32_t> bytes(bytes_.begin(), bytes_.end());
    return options_.byte_fallback && std::any_of(merges_.begin(), merges_.end(), [&](const auto& merge) {
             return bytes.contains(static_cast<int32_t>(merge.first >> 32)) ||
                    bytes.contains(static_cast<int32_t>(merge.first));
           });
  }

  void AddCharacters(std::string_view piece, std::vector<Symbol>* symbols) const {
    bool unknown = false;  // one is to be added
    const auto add = [&](int32_t id) { symbols->push_back({.id = id, .previous = -1, .next = -1}); };
    for (size_t at = 0, bytes = 0; at < piece.size(); at += bytes) {
      const std::string_view rest = piece.substr(at);
      bytes = Utf8Length(rest);
      const std::string_view character = rest.substr(0, bytes);
      const int32_t id = Find(character, at == 0, at + bytes == piece.size());
      if (id >= 0) {
        if (std::exchange(unknown, false)) add(options_.unknown);
        add(id);
      } else if (!options_.byte_fallback || !AddBytes(character, symbols)) {
        if (options_.unknown < 0) continue;
        if (unknown && !options_.fuse_unknown) add(options_.unknown);
        unknown = true;
      }
    }
    if (unknown) add(options_.unknown);
    for (size_t i = 0; i < symbols->size(); ++i) {
      (*symbols)[i].previous = static_cast<int32_t>(i) - 1;
      (*symbols)[i].next = i + 1 < symbols->size() ? static_cast<int32_t>(i) + 1 : -1;
    }
  }

  int32_t Find(std::string_view character, bool first, bool last) const {
    const bool prefixed = !first && !options_.prefix.empty(), suffixed = last && !options_.suffix.empty();
    if (!prefixed && !suffixed) return vocabulary_.Find(character);
    return vocabulary_.Find(
        absl::StrCat(prefixed ? options_.prefix : "", View(character), suffixed ? options_.suffix : ""));
  }

  bool AddBytes(std::string_view character, std::vector<Symbol>* symbols) const {
    for (const char c : character) {
      if (bytes_[static_cast<unsigned char>(c)] < 0) return false;
    }
    for (const char c : character) {
      symbols->push_back({.id = bytes_[static_cast<unsigned char>(c)], .previous = -1, .next = -1});
    }
    return true;
  }

  const Merge* MergeOf(const std::vector<Symbol>& symbols, int32_t left) const {
    if (left < 0 || symbols[left].next < 0) return nullptr;
    const auto found = merges_.find(PairOf(symbols[left].id, symbols[symbols[left].next].id));
    return found == merges_.end() ? nullptr : &found->second;
  }

  void MergeAll(std::vector<Symbol>* symbols_of_piece) const {
    std::vector<Symbol>& symbols = *symbols_of_piece;
    std::vector<Candidate>& heap = heap_;
    heap.clear();
    const auto push = [&](int32_t left) {
      const Merge* merge = MergeOf(symbols, left);
      if (merge == nullptr) return;
      heap.push_back({.rank = merge->rank, .at = left, .id = merge->id});
      std::push_heap(heap.begin(), heap.end());
    };
    for (size_t i = 0; i + 1 < symbols.size(); ++i) push(static_cast<int32_t>(i));
    while (!heap.empty()) {
      const Candidate candidate = heap.front();
      std::pop_heap(heap.begin(), heap.end());
      heap.pop_back();
      Symbol& left = symbols[candidate.at];
      if (!left.alive) continue;
      const Merge* merge = MergeOf(symbols, candidate.at);
      if (merge == nullptr || merge->id != candidate.id) continue;  // a neighbour has changed since
      Symbol& right = symbols[left.next];
      right.alive = false;
      left.id = candidate.id;
      left.next = right.next;
      if (left.next >= 0) symbols[left.next].previous = candidate.at;
      push(left.previous);
      push(candidate.at);
    }
  }

  const Options options_;
  const Merges merges_;
  const ByteTokens bytes_;
  bool cuts_ = false;
  std::bitset<65536> joined_;  // pairs of bytes that are side by side in some token
  // Reused from piece to piece.
  mutable std::vector<Symbol> symbols_;
  mutable std::vector<Candidate> heap_;
};

// The two halves of a merge: "a b" or ["a", "b"].
absl::Status ParsePair(const nlohmann::json& merge, const std::string& path, std::string_view* left,
                       std::string_view* right) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    *left = merge[0].get_ref<const std::string&>();
    *right = merge[1].get_ref<const std::string&>();
    return absl::OkStatus();
  }
  if (merge.is_string()) {
    const std::string_view text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos) {
      *left = text.substr(0, space);
      *right = text.substr(space + 1);
      return absl::OkStatus();
    }
  }
  return JsonValue(&merge, path).Refuse("must be two tokens, as \"a b\" or [\"a\", \"b\"]");
}

absl::StatusOr<Merges> ParseMerges(const JsonValue& value, const Vocabulary& vocabulary, const std::string& prefix) {
  if (!value.IsArray()) return value.Refuse("must be an array of pairs");
  Merges merges;
  merges.reserve(value.raw().size());
  int32_t rank = 0;
  for (size_t i = 0; i < value.raw().size(); ++i) {
    const nlohmann::json& merge = value.raw()[i];
    if (merge.is_string() && std::string_view(merge.get_ref<const std::string&>()).starts_with("#version")) continue;
    const auto path = [&] { return absl::StrCat(value.path(), "[", i, "]"); };
    std::string_view left, right;
    TREFOIL_RETURN_IF_ERROR(ParsePair(merge, path(), &left, &right));
    if (right.size() < prefix.size()) {
      return JsonValue(&merge, path()).Refuse("the second is shorter than model.continuing_subword_prefix");
    }
    const std::string joined = absl::StrCat(View(left), View(right.substr(prefix.size())));
    const int32_t ids[] = {vocabulary.Find(left), vocabulary.Find(right), vocabulary.Find(joined)};
    if (std::min({ids[0], ids[1], ids[2]}) < 0) {
      return JsonValue(&merge, path()).Refuse("both tokens and what they make together must be in model.vocab");
    }
    merges.insert_or_assign(PairOf(ids[0], ids[1]), Merge{.rank = rank++, .id = ids[2]});
  }
  return merges;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TokenModel>> ParseBpe(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(
      value.HasOnly({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                     "byte_fallback", "ignore_merges", "vocab", "merges", "cache_capacity"}));
  if (const JsonValue dropout = value.Get("dropout"); !dropout.IsNull()) {
    TREFOIL_ASSIGN_OR_RETURN(const double share, dropout.Number());
    if (share != 0) return dropout.Refuse("makes the ids of a text random; must be null or 0");
  }
  Options options;
  TREFOIL_ASSIGN_OR_RETURN(options.prefix, value.Get("continuing_subword_prefix").Text(""));
  TREFOIL_ASSIGN_OR_RETURN(options.suffix, value.Get("end_of_word_suffix").Text(""));
  TREFOIL_ASSIGN_OR_RETURN(options.fuse_unknown, value.Get("fuse_unk").Bool(false));
  TREFOIL_ASSIGN_OR_RETURN(options.byte_fallback, value.Get("byte_fallback").Bool(false));
  TREFOIL_ASSIGN_OR_RETURN(options.ignore_merges, value.Get("ignore_merges").Bool(false));
  TREFOIL_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Parse(value.Get("vocab")));
  if (const JsonValue unknown = value.Get("unk_token"); !unknown.IsNull()) {
    TREFOIL_ASSIGN_OR_RETURN(const std::string token, unknown.Text());
    options.unknown = vocabulary.Find(token);
    if (options.unknown < 0) return unknown.Refuse("is not in model.vocab");
  }
  TREFOIL_ASSIGN_OR_RETURN(Merges merges, ParseMerges(value.Get("merges"), vocabulary, options.prefix));
  return std::make_unique<Bpe>(std::move(vocabulary), std::move(options), std::move(merges));
}

}  // namespace trefoil
