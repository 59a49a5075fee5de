// Byte-pair encoding (Sennrich, Haddow & Birch, "Neural machine translation of rare words with subword units", ACL
// 2016) as SentencePiece does it, and whatever else a .model file of SentencePiece's holds.
//
//   TREFOIL_ASSIGN_OR_RETURN(auto tokenizer, SentencePieceTokenizer::Train(texts, /*vocabulary=*/4096));
//
// A tokenizer trained here loses nothing: Decode(Encode(text)) == text for any bytes at all. Spaces, tabs and newlines
// are kept as they are; a newline, and two together, are tokens of their own; each digit is a token; characters that
// the vocabulary lacks, invalid UTF-8, NUL and U+2581 (SentencePiece's stand-in for a space) are spelled as byte
// tokens. No token crosses from a word into the space before the next or mixes letters with digits or signs.
//
// A model file made elsewhere (Llama's tokenizer.model) is used as SentencePiece itself would: what it normalises away
// does not come back. `exact()` tells which. It must have an end-of-sentence symbol.
//
// The file is an ordinary SentencePiece model. Ids of one trained here: 0 end of text, 1 unknown (never produced), 2
// and 3 the newlines, then the 256 bytes, then pieces.
#pragma once

#include <bitset>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokens/sentencepiece_bridge.h"
#include "data/tokens/tokenizer_kind.h"
#include "data/tokens/word_cache.h"
#include "runtime/status.h"

namespace trefoil {

class SentencePieceTokenizer : public TokenizerKind {
 public:
  // Learns `vocabulary` pieces from `texts`, in memory of some 10 times their size (data/text/tokenize_corpus.h samples
  // a larger corpus). Deterministic. Prints nothing.
  // At most half of the pieces that are not bytes are single characters, the most frequent.
  // Failure: a vocabulary below 262, or larger than the texts support; both say the bound.
  static absl::StatusOr<std::unique_ptr<SentencePieceTokenizer>> Train(std::span<const std::string> texts,
                                                                       int64_t vocabulary);
  // The content of a .model file. `name` is for messages.
  static absl::StatusOr<std::unique_ptr<SentencePieceTokenizer>> Parse(std::string content, const std::string& name);
  // The content of its file.
  const std::string& serialized() const { return serialized_; }

  int64_t vocabulary() const override { return model_.size(); }
  int32_t end_of_text() const override { return model_.end_id(); }
  int32_t begin_of_text() const override { return model_.begin_id(); }
  // The symbol that begins texts, as of Llama 2; without one, as of models trained here, a text begins behind the end of the
  // one before.
  std::vector<int32_t> before_text() const override {
    return {begin_of_text() >= 0 ? begin_of_text() : end_of_text()};
  }
  bool exact() const override { return exact_; }
  std::vector<int32_t> Encode(std::string_view text, std::string_view before) override;
  std::string Decode(std::span<const int32_t> ids) const override;
  std::string Description() const override { return "SentencePiece"; }
  PieceKind KindOf(int32_t id) const override;
  std::string_view Piece(int32_t id) const override { return model_.Piece(id); }
  std::string Surface(int32_t id) const override { return surfaces_[id]; }

 private:
  SentencePieceTokenizer() = default;
  static size_t PairOf(char a, char b) { return static_cast<unsigned char>(a) << 8 | static_cast<unsigned char>(b); }
  bool Joined(char a, char b) const { return joined_[PairOf(a, b)]; }
  // Whether the model has all bytes and normalises nothing.
  bool Probe() const;
  absl::Status PrepareParts(const std::string& name);
  void EncodePart(std::string_view text, std::string_view before, std::vector<int32_t>* ids) const;
  // Appends the ids of a text, whole.
  void EncodeWord(std::string_view word, std::vector<int32_t>* ids) const;

  std::string serialized_;
  SentencePieceModel model_;
  bool exact_ = false;
  // For parts of documents, if not exact_: the model with a space before each text and without, and what it does.
  SentencePieceModel with_prefix_, without_prefix_;
  bool trims_ = false;               // spaces at both ends of a text, and the second of two
  bool newlines_are_spaces_ = false;
  std::vector<int32_t> byte_ids_;      // id of each byte, if the model has them
  std::vector<std::string> surfaces_;  // bytes that each id stands for
  std::bitset<65536> joined_;          // pairs of bytes that are side by side in some piece
  WordCache words_;
};

}  // namespace trefoil
