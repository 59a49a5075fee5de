// Texts that a model writes, as text while they come, each up to its end, its limit, or a stop string.
//
//   const WritingTimes times = WriteAsText(texts, tokenizer, wanted, {.ends = ends, .stop = {"\n\n"}},
//                                          [&](size_t text, const std::string& piece) { std::cout << piece; },
//                                          [&](size_t text, const WrittenText& written) { ... });
//
// Nothing of a stop string is given out, wherever tokens begin and end in it. All ranks of a copy make the same call.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "data/tokens/tokenizer.h"
#include "training/inference/writing.h"

namespace trefoil {

struct TextOptions {
  std::vector<int32_t> ends;      // tokens that end a text
  std::vector<std::string> stop;  // strings that do
};

struct WrittenText {
  std::string text;              // without a stop string
  std::vector<int32_t> ids;      // without an end; with those of a stop string
  TextEnd end = TextEnd::kLimit;
};

// on_piece: of what is sure, as it comes. on_end: of each text once, behind its last piece.
WritingTimes WriteAsText(OpenTexts& texts, const Tokenizer& tokenizer, std::span<const TextToWrite> wanted,
                         const TextOptions& options,
                         const std::function<void(size_t text, const std::string& piece)>& on_piece,
                         const std::function<void(size_t text, const WrittenText& written)>& on_end);

}  // namespace trefoil
