// Which tokens begin and end a text: tokenizer_config.json beside a tokenizer.json says it, or the tokens' names do.
//
//   {"bos_token": "<s>", "eos_token": {"content": "</s>", ...}, ...}
//
// End of text: eos_token; where the config is missing, or it has none, the first of <|endoftext|>, <|end_of_text|>,
// </s>, <eos>, <|im_end|>, <|eot_id|>, [SEP] that is an added token, special. Begin of text: bos_token; else what the
// post-processor puts before each text; else none.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tokens/json/added_tokens.h"
#include "data/tokens/json/vocabulary.h"
#include "runtime/status.h"

namespace trefoil {

struct SpecialSymbols {
  int32_t begin = -1;  // none
  int32_t end = -1;
};

// `config` is the content of the file, empty if there is none. Failure: no end of text, or a token that the vocabulary
// lacks.
absl::StatusOr<SpecialSymbols> FindSpecialSymbols(const std::string& config, const AddedTokens& added,
                                                  const Vocabulary& vocabulary);

}  // namespace trefoil
