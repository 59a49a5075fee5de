// Text to token ids and back, by byte-pair encoding (Sennrich, Haddow & Birch, "Neural machine translation of rare
// words with subword units", ACL 2016) as SentencePiece does it.
//
//   TREFOIL_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Train(texts, /*vocabulary=*/4096));
//   TREFOIL_RETURN_IF_ERROR(tokenizer.Save(fs, "corpus/tokenizer.model"));
//   std::vector<int32_t> ids = tokenizer.Encode("It is a truth universally acknowledged");
//   tokenizer.Decode(ids);   // "It is a truth universally acknowledged"
//
// A tokenizer trained here loses nothing: Decode(Encode(text)) == text for any bytes at all. Spaces, tabs and newlines
// are kept as they are; a newline, and two together, are tokens of their own; each digit is a token; characters that
// the vocabulary lacks, invalid UTF-8, NUL and U+2581 (SentencePiece's stand-in for a space) are spelled as byte
// tokens. No token crosses from a word into the space before the next or mixes letters with digits or signs.
//
// A model file made elsewhere (Llama's tokenizer.model) is used as SentencePiece itself would: what it normalises away
// does not come back. `exact()` tells which. It must have an end-of-sentence symbol. What its tokens stand for may depend
// on the ones before them: data/tokens/text_stream.h decodes as they come.
//
// The file is an ordinary SentencePiece model. Ids of one trained here: 0 end of text, 1 unknown (never produced), 2
// and 3 the newlines, then the 256 bytes, then pieces.
//
// Threads: one at a time per Tokenizer, since Encode remembers words (at most a few tens of MB); Load once per thread.
#pragma once

#include <bitset>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "data/tokens/sentencepiece_bridge.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

class Tokenizer {
 public:
  // Learns `vocabulary` pieces from `texts`, in memory of some 10 times their size (data/text/tokenize_corpus.h samples
  // a larger corpus). Deterministic. Prints nothing.
  // At most half of the pieces that are not bytes are single characters, the most frequent.
  // Failure: a vocabulary below 262, or larger than the texts support; both say the bound.
  static absl::StatusOr<Tokenizer> Train(std::span<const std::string> texts, int64_t vocabulary);
  static absl::StatusOr<Tokenizer> Load(FileSystem& fs, const std::string& path);
  absl::Status Save(FileSystem& fs, const std::string& path) const;

  // Ids are in [0, vocabulary()).
  int64_t vocabulary() const { return model_.size(); }
  // The symbol that ends each document. No text encodes to it.
  int32_t end_of_text() const { return model_.end_id(); }
  // Decode(Encode(text)) == text for every text.
  bool exact() const { return exact_; }

  //
  // `before`: what of the document precedes `text`, or at least its last character; empty where the document begins. A
  // document encoded in parts then has the ids that it has as a whole, as far as the parts meet between words: a model that
  // puts a space before each text does so once. Models trained here have no use for it.
  std::vector<int32_t> Encode(std::string_view text, std::string_view before = {});
  // The bytes of `ids` put together; the end of text and other symbols give none. Cutting a token sequence anywhere and
  // decoding both halves gives the same bytes when exact(), though a character may be cut in two.
  // CHECKs that ids are in [0, vocabulary()).
  std::string Decode(std::span<const int32_t> ids) const;

  // Of each id, whether a word begins with it: it begins with a white space, with a sign of ASCII that is neither letter,
  // digit nor apostrophe, or is a symbol. "1995" is one word, and the first word of a line goes with the newline before.
  std::vector<bool> BeginsWord() const;
  // CRC32C of the model file: tells tokenizers apart.
  uint32_t checksum() const;

  // Its pieces, for looking at.
  const SentencePieceModel& model() const { return model_; }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };

  Tokenizer() = default;
  static absl::StatusOr<Tokenizer> FromSerialized(std::string serialized, const std::string& name);
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
  std::vector<std::string> surfaces_;  // bytes that each id stands for, if exact_
  std::bitset<65536> joined_;          // pairs of bytes that are side by side in some piece
  // What Encode remembers: the ids of a word are word_ids_[first, last).
  std::unordered_map<std::string, std::pair<size_t, size_t>, Hash, std::equal_to<>> words_;
  std::vector<int32_t> word_ids_;
};

}  // namespace trefoil
