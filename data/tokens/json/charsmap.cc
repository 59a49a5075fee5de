#include "data/tokens/json/charsmap.h"

#include <absl/strings/str_cat.h>

#include <cstring>

#include "data/text/utf8.h"
#include "data/tokens/json/unicode.h"

namespace trefoil {
namespace {

constexpr size_t kShortGrapheme = 6;  // bytes

uint32_t Word(std::string_view bytes) {
  uint32_t word = 0;
  for (int i = 3; i >= 0; --i) word = word << 8 | static_cast<unsigned char>(bytes[i]);
  return word;
}

bool HasLeaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t Value(uint32_t unit) { return unit & 0x7fffffff; }
uint32_t Label(uint32_t unit) { return unit & 0x800000ff; }
uint32_t Offset(uint32_t unit) { return unit >> 10 << ((unit & 0x200) >> 6); }

}  // namespace

absl::StatusOr<Charsmap> Charsmap::Parse(std::string_view bytes) {
  const size_t trie = bytes.size() < 4 ? 0 : Word(bytes);
  if (bytes.size() < 4 || trie == 0 || trie % 4 != 0 || trie > bytes.size() - 4) {
    return absl::InvalidArgumentError(
        absl::StrCat("not a table of SentencePiece's: ", bytes.size(), " bytes with a trie of ", trie));
  }
  Charsmap map;
  map.units_.reserve(trie / 4);
  for (size_t at = 4; at < 4 + trie; at += 4) map.units_.push_back(Word(bytes.substr(at)));
  map.texts_ = std::string(bytes.substr(4 + trie));
  // Texts end inside the table and no character is cut.
  if (map.texts_.empty() || map.texts_.back() != '\0') {
    return absl::InvalidArgumentError("not a table of SentencePiece's: its last text has no end");
  }
  for (size_t at = 0; at < map.texts_.size();) {
    const size_t length = Utf8Length(std::string_view(map.texts_).substr(at));
    if (length == 0) return absl::InvalidArgumentError("not a table of SentencePiece's: its texts are not UTF-8");
    at += length;
  }
  return map;
}

std::optional<std::string_view> Charsmap::Find(std::string_view chunk) const {
  size_t at = Offset(units_[0]);
  for (const char c : chunk) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == 0) return std::nullopt;
    at ^= byte;
    if (at >= units_.size() || Label(units_[at]) != byte) return std::nullopt;
    const uint32_t unit = units_[at];
    at ^= Offset(unit);
    if (!HasLeaf(unit)) continue;
    if (at >= units_.size()) return std::nullopt;
    const size_t begin = Value(units_[at]);
    // A place inside a character is of a damaged table.
    if (begin >= texts_.size() || (texts_[begin] & 0xc0) == 0x80) return std::nullopt;
    return std::string_view(texts_.c_str() + begin);
  }
  return std::nullopt;
}

void Charsmap::Apply(std::string* text) const {
  std::string out;
  out.reserve(text->size());
  Graphemes graphemes(*text);
  for (std::string_view grapheme = graphemes.Next(); !grapheme.empty(); grapheme = graphemes.Next()) {
    if (grapheme.size() < kShortGrapheme) {
      if (const auto found = Find(grapheme)) {
        out += *found;
        continue;
      }
    }
    while (!grapheme.empty()) {
      const std::string_view character = grapheme.substr(0, Utf8Length(grapheme));
      out += Find(character).value_or(character);
      grapheme.remove_prefix(character.size());
    }
  }
  *text = std::move(out);
}

}  // namespace trefoil
