// The model of a tokenizer.json: a piece of text to ids.
//
//   TREFOIL_ASSIGN_OR_RETURN(auto model, ParseTokenModel(file.root().Get("model")));
//   model->Encode("Ġtruth", &ids);
//
// Kinds: BPE (bpe.h), WordPiece (word_piece.h), Unigram (unigram.h), WordLevel (word_level.h).
#pragma once

#include <absl/functional/function_ref.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/tokens/json/json_value.h"
#include "data/tokens/json/vocabulary.h"
#include "runtime/status.h"

namespace trefoil {

class TokenModel {
 public:
  explicit TokenModel(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}
  virtual ~TokenModel() = default;

  // Appends the ids of `piece`, which is valid UTF-8 and not empty.
  virtual void Encode(std::string_view piece, std::vector<int32_t>* ids) const = 0;
  // Calls give(word) for parts of a long piece whose ids put together are the piece's; for the piece itself where it
  // has none.
  virtual void Cut(std::string_view piece, absl::FunctionRef<void(std::string_view)> give) const { give(piece); }
  virtual std::string name() const = 0;
  // The token for what the vocabulary cannot spell, -1 if there is none.
  virtual int32_t unknown_id() const = 0;
  // Whether what the vocabulary lacks is spelled in tokens "<0x0A>", of which there are all 256.
  virtual bool falls_back_on_bytes() const { return false; }

  const Vocabulary& vocabulary() const { return vocabulary_; }

 protected:
  Vocabulary vocabulary_;
};

absl::StatusOr<std::unique_ptr<TokenModel>> ParseTokenModel(const JsonValue& value);

// The ids of tokens "<0x00>" to "<0xFF>", -1 where there is none.
using ByteTokens = std::array<int32_t, 256>;
ByteTokens FindByteTokens(const Vocabulary& vocabulary);
bool HasAll(const ByteTokens& tokens);

}  // namespace trefoil
