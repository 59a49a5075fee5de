#include "data/tokens/json/post_processor.h"

#include <absl/strings/str_cat.h>

#include <string>

namespace trefoil {
namespace {

absl::StatusOr<int32_t> ParseId(const JsonValue& value, int64_t size) {
  TREFOIL_ASSIGN_OR_RETURN(const int64_t id, value.Integer());
  if (id < 0 || id >= size) return value.Refuse(absl::StrCat("must be an id, in [0, ", size, ")"));
  return static_cast<int32_t>(id);
}

// {"single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, ...],
//  "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [101], "tokens": ["[CLS]"]}, ...}}
absl::StatusOr<TextFrame> ParseTemplate(const JsonValue& value, int64_t size) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "single", "pair", "special_tokens"}));
  TREFOIL_ASSIGN_OR_RETURN(const auto pieces, value.Get("single").Items());
  TextFrame frame;
  bool text = false;
  for (const JsonValue& piece : pieces) {
    TREFOIL_RETURN_IF_ERROR(piece.HasOnly({"SpecialToken", "Sequence"}));
    if (!piece.Get("Sequence").IsNull()) {
      TREFOIL_ASSIGN_OR_RETURN(const std::string id, piece.Get("Sequence").Get("id").Text());
      if (text || id != "A") return piece.Refuse("a single text is in its template once, as A");
      text = true;
      continue;
    }
    TREFOIL_ASSIGN_OR_RETURN(const std::string name, piece.Get("SpecialToken").Get("id").Text());
    TREFOIL_ASSIGN_OR_RETURN(const auto ids, value.Get("special_tokens").Get(name).Get("ids").Items());
    for (const JsonValue& item : ids) {
      TREFOIL_ASSIGN_OR_RETURN(const int32_t id, ParseId(item, size));
      (text ? frame.after : frame.before).push_back(id);
    }
  }
  if (!text) return value.Get("single").Refuse("has no place for the text");
  return frame;
}

// {"sep": ["[SEP]", 102], "cls": ["[CLS]", 101]}
absl::StatusOr<TextFrame> ParsePair(const JsonValue& value, int64_t size) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "sep", "cls", "trim_offsets", "add_prefix_space"}));
  TextFrame frame;
  for (const char* key : {"cls", "sep"}) {
    TREFOIL_ASSIGN_OR_RETURN(const auto pair, value.Get(key).Items());
    if (pair.size() != 2) return value.Get(key).Refuse("must be a token and its id");
    TREFOIL_ASSIGN_OR_RETURN(const int32_t id, ParseId(pair[1], size));
    (frame.before.empty() ? frame.before : frame.after).push_back(id);
  }
  return frame;
}

// Each works on what the one before has made.
absl::StatusOr<TextFrame> ParseSequence(const JsonValue& value, int64_t size) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "processors"}));
  TREFOIL_ASSIGN_OR_RETURN(const auto items, value.Get("processors").Items());
  TextFrame frame;
  for (const JsonValue& item : items) {
    if (item.IsNull()) return item.Refuse("must be an object");
    TREFOIL_ASSIGN_OR_RETURN(const TextFrame outer, ParsePostProcessor(item, size));
    frame.before.insert(frame.before.begin(), outer.before.begin(), outer.before.end());
    frame.after.insert(frame.after.end(), outer.after.begin(), outer.after.end());
  }
  return frame;
}

}  // namespace

absl::StatusOr<TextFrame> ParsePostProcessor(const JsonValue& value, int64_t size) {
  if (value.IsNull()) return TextFrame();
  TREFOIL_ASSIGN_OR_RETURN(const std::string type, value.Get("type").Text());
  if (type == "TemplateProcessing") return ParseTemplate(value, size);
  if (type == "BertProcessing" || type == "RobertaProcessing") return ParsePair(value, size);
  if (type == "Sequence") return ParseSequence(value, size);
  if (type == "ByteLevel") {  // of offsets only
    TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "add_prefix_space", "trim_offsets", "use_regex"}));
    return TextFrame();
  }
  return value.Get("type").Refuse("a post-processor that is not known here");
}

}  // namespace trefoil
