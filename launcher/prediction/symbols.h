// Texts with a task's own symbols in them, spelled as others do: "[MASK]" of MASKED_TOKEN, "<extra_id_0>" and so on,
// which stand for the spans of SPAN_CORRUPTION.
//
//   const TextSymbols symbols = {{"[MASK]", special.mask}};
//   std::vector<int32_t> ids = EncodeWithSymbols(tokenizer, "It is a [MASK] universally acknowledged", symbols);
//   DecodeWithSymbols(tokenizer, ids, symbols);
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "data/tokens/tokenizer.h"
#include "training/run.pb.h"

namespace trefoil {

using TextSymbols = std::vector<std::pair<std::string, int32_t>>;

// Those of a task.
TextSymbols SymbolsInTexts(const TaskConfig& task);

// A space before a symbol is left out: pieces begin with theirs, and so does what the symbol stands for.
std::vector<int32_t> EncodeWithSymbols(Tokenizer& tokenizer, const std::string& text, const TextSymbols& symbols);
// Ids are the tokenizer's or the symbols'.
std::string DecodeWithSymbols(const Tokenizer& tokenizer, std::span<const int32_t> ids, const TextSymbols& symbols);

}  // namespace trefoil
