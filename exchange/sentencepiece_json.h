// A SentencePiece model by byte-pair encoding as a tokenizer.json, which cuts text into the same pieces.
//
// A .model file has its pieces with scores, by which two neighbours are put together to a better one; a tokenizer.json
// has a list of such pairs, the best first. So each piece gives all pairs of pieces that make it, in order of the
// scores. What gets lost: U+2581 in a text is a space to a tokenizer.json, which has that sign for spaces.
//
// Threads: pure function.
#pragma once

#include <string>

#include "runtime/status.h"

namespace trefoil {

// `model`: the content of a file, `name` for messages. Failure: no such file; one of another kind than byte-pair
// encoding, or that normalises text.
absl::StatusOr<std::string> TokenizerJsonOf(const std::string& model, const std::string& name);

}  // namespace trefoil
