// The normalizer of a tokenizer.json: what a text is made into before it is cut.
//
//   TREFOIL_ASSIGN_OR_RETURN(auto normalizer, ParseNormalizer(file.root().Get("normalizer")));
//   normalizer->Normalize(/*continues=*/false, &text);
//
// Kinds: NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Replace, Prepend, BertNormalizer, Precompiled
// (SentencePiece's own tables: charsmap.h), ByteLevel, Nmt, Sequence.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "data/tokens/json/json_value.h"
#include "runtime/status.h"

namespace trefoil {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  // Changes `text`, valid UTF-8 before and after. `continues`: it follows a text of the same document, so that what
  // begins each text is not put before it.
  virtual void Normalize(bool continues, std::string* text) const = 0;
};

// Null where the file has none.
absl::StatusOr<std::unique_ptr<Normalizer>> ParseNormalizer(const JsonValue& value);

}  // namespace trefoil
