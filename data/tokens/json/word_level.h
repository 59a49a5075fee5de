// A token a word: each piece is looked up whole.
//
//   "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0, "the": 1}}
#pragma once

#include <memory>

#include "data/tokens/json/json_value.h"
#include "data/tokens/json/token_model.h"
#include "runtime/status.h"

namespace trefoil {

absl::StatusOr<std::unique_ptr<TokenModel>> ParseWordLevel(const JsonValue& value);

}  // namespace trefoil
