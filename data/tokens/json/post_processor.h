// The post-processor of a tokenizer.json: which ids a text begins and ends with.
//
//   TREFOIL_ASSIGN_OR_RETURN(TextFrame frame, ParsePostProcessor(file.root().Get("post_processor"), size));
//   frame.before   // {101}: [CLS]
//   frame.after    // {102}: [SEP]
//
// Kinds: TemplateProcessing (of its templates the one of a single text), BertProcessing, RobertaProcessing, ByteLevel,
// Sequence.
#pragma once

#include <cstdint>
#include <vector>

#include "data/tokens/json/json_value.h"
#include "runtime/status.h"

namespace trefoil {

struct TextFrame {
  std::vector<int32_t> before, after;
};

// Ids are in [0, size).
absl::StatusOr<TextFrame> ParsePostProcessor(const JsonValue& value, int64_t size);

}  // namespace trefoil
