// A tokenizer of Hugging Face's, from its tokenizer.json: the ids are those of the `tokenizers` package.
//
//   TREFOIL_ASSIGN_OR_RETURN(auto tokenizer, JsonTokenizer::Parse(content, config, "smollm2/tokenizer.json"));
//   tokenizer->Encode("It is<|im_end|>", {});
//
// The way of a text: added tokens cut it (added_tokens.h); the parts between are normalized (normalizer.h), cut by the
// added tokens that are looked for in normalized text, and cut into pieces (pre_tokenizer.h); the model makes ids of
// each (token_model.h). Back: tokens that are not special go through the decoder (decoder.h). Symbols around a text:
// post_processor.h, and special_symbols.h for its end. `truncation` and `padding` of the file are left aside: a text is
// encoded whole. Whatever else is not known is refused, by its place in the file.
//
// Text of the file's special tokens becomes these tokens, as in the package: whoever encodes text of strangers knows
// it.
//
// Bytes that are not UTF-8, which the package does not take: where the vocabulary has a token of every byte (the
// alphabet of bytes, or byte_fallback) they are such tokens, and come back; elsewhere each is read as U+FFFD.
//
// Threads: one at a time.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokens/json/added_tokens.h"
#include "data/tokens/json/decoder.h"
#include "data/tokens/json/normalizer.h"
#include "data/tokens/json/post_processor.h"
#include "data/tokens/json/pre_tokenizer.h"
#include "data/tokens/json/special_symbols.h"
#include "data/tokens/json/token_model.h"
#include "data/tokens/tokenizer_kind.h"
#include "data/tokens/word_cache.h"
#include "runtime/status.h"

namespace trefoil {

class JsonTokenizer : public TokenizerKind {
 public:
  // `content` of the file; `config` of the tokenizer_config.json beside it, empty if there is none. `name` is for
  // messages.
  static absl::StatusOr<std::unique_ptr<JsonTokenizer>> Parse(const std::string& content, const std::string& config,
                                                              const std::string& name);

  int64_t vocabulary() const override { return size_; }
  int32_t end_of_text() const override { return symbols_.end; }
  int32_t begin_of_text() const override { return symbols_.begin; }
  bool exact() const override { return exact_; }
  std::vector<int32_t> Encode(std::string_view text, std::string_view before) override;
  std::string Decode(std::span<const int32_t> ids) const override;
  std::string Description() const override;
  PieceKind KindOf(int32_t id) const override;
  std::string_view Piece(int32_t id) const override;
  std::string Surface(int32_t id) const override;
  std::vector<int32_t> before_text() const override { return frame_.before; }
  std::vector<int32_t> after_text() const override { return frame_.after; }

 private:
  // How bytes that are no text are spelled.
  enum class OddBytes { kAlphabet, kFallback, kReplaced };

  JsonTokenizer() = default;
  absl::Status ParseParts(const std::string& content, const std::string& config);
  void FindAddedTokens();
  bool Probe();
  void EncodeValid(std::string_view text, bool begins_text, bool continues, std::vector<int32_t>* ids);
  void EncodeNormalized(std::string_view text, bool begins_text, bool continues, std::vector<int32_t>* ids);
  void EncodePiece(std::string_view piece, std::vector<int32_t>* ids);
  void EncodeOddBytes(std::string_view bytes, std::vector<int32_t>* ids);

  AddedTokens added_;
  TokenFinder raw_finder_, normalized_finder_;
  std::unique_ptr<Normalizer> normalizer_;       // null: none
  std::unique_ptr<PreTokenizer> pre_tokenizer_;  // null: none
  std::unique_ptr<TokenModel> model_;
  std::unique_ptr<Decoder> decoder_;
  TextFrame frame_;
  SpecialSymbols symbols_;
  int64_t size_ = 0;
  OddBytes odd_bytes_ = OddBytes::kReplaced;
  ByteTokens byte_tokens_;  // "<0x0A>"
  bool exact_ = false;
  WordCache words_;
};

}  // namespace trefoil
