// Learns a byte-level BPE and writes it as a tokenizer.json.
//
//   TREFOIL_ASSIGN_OR_RETURN(TokenizerFiles files, TrainByteBpe(counter.Take(), /*vocabulary=*/32000));
//   TREFOIL_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Of(files, "trained"));
//
// Each word begins as its bytes; the pair of neighbours that occurs most often in all words becomes a token, again and
// again (Sennrich, Haddow & Birch, ACL 2016); of pairs as frequent the one of the smaller ids. The counts of pairs are
// kept up with each merge where it changes them, and wait in a heap. The same merges as those of the `tokenizers`
// package's trainer.
//
// Ids: 0 <|endoftext|>, then the 256 bytes in the order of their characters (byte_alphabet.h), then pieces, the most
// frequent first. The package opens the file, and the tokenizer_config.json beside it makes a folder of it for
// transformers.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "data/tokens/json/word_counter.h"
#include "data/tokens/tokenizer_files.h"
#include "runtime/status.h"

namespace trefoil {

// Memory of some 20 times the bytes of all words. Pairs that occur once are not merged.
// Failure: a vocabulary below 258, or larger than the words support; both say the bound.
absl::StatusOr<TokenizerFiles> TrainByteBpe(const WordCounts& words, int64_t vocabulary);

// The first `merges` of it, as pairs of ids: 1 + a byte's place in the alphabet, or 257 + the number of a merge. Fewer
// where no pair occurs twice.
std::vector<std::pair<int32_t, int32_t>> LearnMerges(const WordCounts& words, size_t merges);

}  // namespace trefoil
