// A tokenizer as the files that transformers opens a model's folder with: tokenizer.json, tokenizer_config.json, the
// chat template, generation_config.json.
//
// Threads: one.
#pragma once

#include <string>

#include "data/tokens/tokenizer.h"
#include "model/model.pb.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

// Of SentencePiece models by byte-pair encoding a tokenizer.json is made (exchange/sentencepiece_json.h); others are
// written as they are, which `note` then tells. `tokenizer`: of its files.
absl::Status WriteTokenizerForOthers(FileSystem& fs, const Tokenizer& tokenizer, const ModelConfig& model,
                                     const std::string& folder, std::string* note);

}  // namespace trefoil
