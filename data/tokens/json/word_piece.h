// WordPiece (Wu et al., 2016; BERT): a word is the longest token that begins it, then the longest "##..." of the rest,
// and so on. A word that this cannot spell, or of more than max_input_chars_per_word characters, is the unknown token.
//
//   "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
//             "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "un": 1, "##able": 2}}
#pragma once

#include <memory>

#include "data/tokens/json/json_value.h"
#include "data/tokens/json/token_model.h"
#include "runtime/status.h"

namespace trefoil {

absl::StatusOr<std::unique_ptr<TokenModel>> ParseWordPiece(const JsonValue& value);

}  // namespace trefoil
