// SentencePiece's precompiled normalization, as the normalizer Precompiled of a tokenizer.json has it.
//
//   TREFOIL_ASSIGN_OR_RETURN(Charsmap map, Charsmap::Parse(bytes));
//   map.Apply(&text);
//
//   charsmap   = trie_bytes:u32 trie texts                  little-endian
//   trie       = unit:u32 ...                               a double array (Aoe, 1989) in Darts' layout
//   texts      = {byte} 0 {byte} 0 ...                      a leaf's value is the place of its text
//
// What the `tokenizers` package makes of it, not what SentencePiece does: a grapheme cluster of less than 6 bytes of
// which any beginning is in the trie becomes the text of the shortest; else each character does by itself.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/status.h"

namespace trefoil {

class Charsmap {
 public:
  static absl::StatusOr<Charsmap> Parse(std::string_view bytes);
  // `text` is valid UTF-8.
  void Apply(std::string* text) const;

 private:
  // The text of the shortest beginning of `chunk` that is in the trie.
  std::optional<std::string_view> Find(std::string_view chunk) const;

  std::vector<uint32_t> units_;
  std::string texts_;
};

}  // namespace trefoil
