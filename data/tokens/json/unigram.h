// Unigram language model (Kudo, "Subword regularization", ACL 2018): the pieces whose log probabilities add up to the
// most, by Viterbi's algorithm.
//
//   "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -2.5], ...], "byte_fallback": false}
//
// A character without a token costs 10 more than the least likely token; several in a row are one unknown token, or
// with byte_fallback are spelled as "<0xC3>".
#pragma once

#include <memory>

#include "data/tokens/json/json_value.h"
#include "data/tokens/json/token_model.h"
#include "runtime/status.h"

namespace trefoil {

absl::StatusOr<std::unique_ptr<TokenModel>> ParseUnigram(const JsonValue& value);

}  // namespace trefoil
