// Byte-pair encoding as a tokenizer.json has it: merges by rank, of the characters of a piece.
//
//   "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}      or [["a", "b"]]
//
// Options: unk_token and fuse_unk (characters without a token), byte_fallback (spelled as "<0xC3>" instead),
// ignore_merges (a piece that is a token is that token), continuing_subword_prefix, end_of_word_suffix. A character
// that nothing spells is left out.
#pragma once

#include <memory>

#include "data/tokens/json/json_value.h"
#include "data/tokens/json/token_model.h"
#include "runtime/status.h"

namespace trefoil {

absl::StatusOr<std::unique_ptr<TokenModel>> ParseBpe(const JsonValue& value);

}  // namespace trefoil
