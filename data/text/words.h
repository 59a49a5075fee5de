// Words to tokens, each by itself: which tokens are a word's.
//
//   EncodeWords(tokenizer, {"Ann", "sings"});       // the tokens of "Ann", those of " sings"
//
// Put together they are the tokens of the words with spaces between. A word may have none under a tokenizer that leaves
// out what it does not know.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/tokens/tokenizer.h"

namespace trefoil {

std::vector<std::vector<int32_t>> EncodeWords(Tokenizer& tokenizer, std::span<const std::string> words);

}  // namespace trefoil
