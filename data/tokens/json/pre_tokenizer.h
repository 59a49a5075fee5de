// The pre-tokenizer of a tokenizer.json: cuts a normalized text into pieces that no token crosses.
//
//   TREFOIL_ASSIGN_OR_RETURN(auto cut, ParsePreTokenizer(file.root().Get("pre_tokenizer")));
//   cut->Cut({.text = "It is", .begins_text = true}, [&](const TextPiece& piece) { ... });   // "It", "Ġis"
//
// Kinds: ByteLevel, Split, Digits, Metaspace, BertPreTokenizer, Whitespace, WhitespaceSplit, Punctuation,
// CharDelimiterSplit, Sequence. Patterns are regular expressions of the file (regex.h); GPT-2's is known by ByteLevel.
#pragma once

#include <absl/functional/function_ref.h>

#include <memory>
#include <string_view>

#include "data/tokens/json/json_value.h"
#include "runtime/status.h"

namespace trefoil {

struct TextPiece {
  std::string_view text;     // valid UTF-8, not empty
  bool begins_text = false;  // of the whole text that is encoded
  bool continues = false;    // the same document goes on, so that no space is put before this
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  // Pieces are given in order, and live for the call only.
  virtual void Cut(const TextPiece& piece, absl::FunctionRef<void(const TextPiece&)> give) const = 0;
  // Whether pieces are in the alphabet of bytes (byte_alphabet.h).
  virtual bool of_bytes() const { return false; }
  // Whether the pieces put together are the text, in whatever alphabet.
  virtual bool keeps_all() const = 0;
};

// Null where the file has none.
absl::StatusOr<std::unique_ptr<PreTokenizer>> ParsePreTokenizer(const JsonValue& value);

}  // namespace trefoil
