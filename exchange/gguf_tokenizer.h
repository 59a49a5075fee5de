// The tokenizer of a GGUF file as files of Hugging Face's: tokenizer.json and tokenizer_config.json.
//
// Threads: pure functions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "runtime/status.h"

namespace trefoil {

struct GgufTokenizer {
  std::string json;    // tokenizer.json
  std::string config;  // tokenizer_config.json, with the chat template if there is one
};

// `metadata`: of the file (exchange/gguf.h); `path` for messages. Failure: a kind of tokenizer, or of cutting text
// before it, that is not known; lists that do not fit each other.
absl::StatusOr<GgufTokenizer> TokenizerOfGguf(const nlohmann::json& metadata, const std::string& path);

}  // namespace trefoil
