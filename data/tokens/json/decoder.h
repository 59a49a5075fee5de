// The decoder of a tokenizer.json: the tokens of a text to its bytes.
//
//   TREFOIL_ASSIGN_OR_RETURN(auto decoder, ParseDecoder(file.root().Get("decoder")));
//   decoder->Decode(&tokens);   // {"It", "Ġis"} -> {"It is"}; put together they are the text
//
// Kinds: ByteLevel, WordPiece, Metaspace, BPEDecoder, ByteFallback, Fuse, Strip, Replace, Sequence.
//
// Bytes that are not UTF-8 come back as they are, where the `tokenizers` package puts U+FFFD for them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/tokens/json/json_value.h"
#include "runtime/status.h"

namespace trefoil {

class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual void Decode(std::vector<std::string>* tokens) const = 0;
};

// One that puts a space between two tokens where the file has none.
absl::StatusOr<std::unique_ptr<Decoder>> ParseDecoder(const JsonValue& value);

}  // namespace trefoil
