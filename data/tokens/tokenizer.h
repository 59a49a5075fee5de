// Text to token ids and back, whatever the kind of tokenizer.
//
//   TREFOIL_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Train(texts, /*vocabulary=*/4096));
//   TREFOIL_RETURN_IF_ERROR(tokenizer.Save(fs, "corpus"));                             // corpus/tokenizer.model
//   TREFOIL_ASSIGN_OR_RETURN(tokenizer, Tokenizer::Load(fs, "smollm2/tokenizer.json"));
//   std::vector<int32_t> ids = tokenizer.Encode("It is a truth universally acknowledged");
//   tokenizer.Decode(ids);   // "It is a truth universally acknowledged"
//
// Two kinds of file hold one: SentencePiece's .model (data/tokens/sentencepiece_tokenizer.h), which Train makes, and
// Hugging Face's tokenizer.json (data/tokens/json/json_tokenizer.h) with all its models. Each is used as its own
// library would use it: the ids are the same. What lies beside the file goes with it (data/tokens/tokenizer_files.h).
//
// What tokens stand for may depend on the ones before them: data/tokens/text_stream.h decodes as they come.
//
// Threads: one at a time per Tokenizer, since Encode remembers words (at most a few tens of MB); Load once per thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokens/tokenizer_files.h"
#include "data/tokens/tokenizer_kind.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

class Tokenizer {
 public:
  // As SentencePieceTokenizer::Train.
  static absl::StatusOr<Tokenizer> Train(std::span<const std::string> texts, int64_t vocabulary);
  // `path`: a .json or SentencePiece's file, or a folder that has one. Failure: a file that is not what it should be,
  // or that asks for what is not known here, by name; no symbol that ends texts.
  static absl::StatusOr<Tokenizer> Load(FileSystem& fs, const std::string& path);
  // `name` is for messages.
  static absl::StatusOr<Tokenizer> Of(TokenizerFiles files, const std::string& name);
  // Into a folder, under the name that its kind has there.
  absl::Status Save(FileSystem& fs, const std::string& folder) const;

  // Ids are in [0, vocabulary()).
  int64_t vocabulary() const { return kind_->vocabulary(); }
  // The symbol that ends each document. Text encodes to it only where a tokenizer.json finds its symbols spelled out in
  // it.
  int32_t end_of_text() const { return kind_->end_of_text(); }
  // The symbol that some models are to find before each document; -1 if there is none.
  int32_t begin_of_text() const { return kind_->begin_of_text(); }
  // Decode(Encode(text)) == text for every text, of any bytes at all, that does not spell out symbols.
  bool exact() const { return kind_->exact(); }

  // `before`: what of the document precedes `text`, or at least its last character; empty where the document begins. A
  // document encoded in parts then has the ids that it has as a whole, as far as the parts meet between words: a model
  // that puts a space before each text does so once. Models trained here have no use for it. The symbols of
  // before_text() and after_text() are left to the caller.
  std::vector<int32_t> Encode(std::string_view text, std::string_view before = {}) {
    return kind_->Encode(text, before);
  }
  // What a network that writes from left to right reads of a text that begins a document: before_text() and the text's own.
  // Of nothing at all the end of text, behind which documents begin.
  std::vector<int32_t> EncodeDocument(std::string_view text);
  // The bytes of `ids` put together; the end of text and other symbols give none. Cutting a token sequence anywhere and
  // decoding both halves gives the same bytes when exact(), though a character may be cut in two.
  // CHECKs that ids are in [0, vocabulary()).
  std::string Decode(std::span<const int32_t> ids) const { return kind_->Decode(ids); }

  // Ids that a whole text begins and ends with. Of a tokenizer.json what its post-processor says: [CLS] and [SEP] of BERT's,
  // the begin of text of Llama's, none of most. Of SentencePiece's files the symbol that begins texts, or else that which
  // ends them, and none behind. Encode gives the text's own only.
  std::vector<int32_t> before_text() const { return kind_->before_text(); }
  std::vector<int32_t> after_text() const { return kind_->after_text(); }

  // Of each id, whether a word begins with it: it begins with a white space, with a sign of ASCII that is neither letter,
  // digit nor apostrophe, or is a symbol. "1995" is one word, and the first word of a line goes with the newline before.
  std::vector<bool> BeginsWord() const;
  // CRC32C of the file: tells tokenizers apart.
  uint32_t checksum() const;

  // For looking at. What it is: "SentencePiece", "BPE on bytes". How an id is written in the file.
  std::string Description() const { return kind_->Description(); }
  PieceKind KindOf(int32_t id) const { return kind_->KindOf(id); }
  std::string_view Piece(int32_t id) const { return kind_->Piece(id); }

  // As read.
  const TokenizerFiles& files() const { return files_; }

 private:
  Tokenizer(TokenizerFiles files, std::unique_ptr<TokenizerKind> kind);

  TokenizerFiles files_;
  std::unique_ptr<TokenizerKind> kind_;
};

}  // namespace trefoil
