// What a kind of tokenizer does: the interface behind data/tokens/tokenizer.h, which is what to use.
//
//   class SentencePieceTokenizer : public TokenizerKind ...    // a .model file: sentencepiece_tokenizer.h
//   class JsonTokenizer : public TokenizerKind ...             // a tokenizer.json: json/json_tokenizer.h
//
// Threads: one at a time per object.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trefoil {

enum class PieceKind {
  kText,
  kByte,     // stands for a byte where no piece does
  kSymbol,   // says something about the text: its end, who speaks. Decoding gives nothing for it
  kUnknown,  // what the vocabulary cannot spell
  kNone,     // an id that stands for nothing
};

class TokenizerKind {
 public:
  virtual ~TokenizerKind() = default;

  // Each as Tokenizer's.
  virtual int64_t vocabulary() const = 0;
  virtual int32_t end_of_text() const = 0;
  virtual int32_t begin_of_text() const = 0;
  virtual bool exact() const = 0;
  virtual std::vector<int32_t> Encode(std::string_view text, std::string_view before) = 0;
  virtual std::string Decode(std::span<const int32_t> ids) const = 0;
  virtual std::string Description() const = 0;
  virtual PieceKind KindOf(int32_t id) const = 0;
  virtual std::string_view Piece(int32_t id) const = 0;

  // The bytes that a token of text or a byte stands for inside a text, with the space before it if it has one.
  virtual std::string Surface(int32_t id) const = 0;
  // Ids that a whole text begins and ends with, if the file says so.
  virtual std::vector<int32_t> before_text() const { return {}; }
  virtual std::vector<int32_t> after_text() const { return {}; }
};

}  // namespace trefoil
