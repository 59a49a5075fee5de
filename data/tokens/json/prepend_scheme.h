// Before which texts SentencePiece's stand-in for a space is put: the option of the pre-tokenizer and the decoder
// Metaspace.
#pragma once

#include <string>

#include "data/tokens/json/json_value.h"
#include "runtime/status.h"

namespace trefoil {

enum class PrependScheme { kAlways, kNever, kFirst };

// Of a Metaspace. Files from before the option have add_prefix_space: whether it is put before each.
inline absl::StatusOr<PrependScheme> ParsePrependScheme(const JsonValue& metaspace) {
  const JsonValue value = metaspace.Get("prepend_scheme");
  TREFOIL_ASSIGN_OR_RETURN(const std::string name, value.Text("always"));
  TREFOIL_ASSIGN_OR_RETURN(const bool old, metaspace.Get("add_prefix_space").Bool(name != "never"));
  if (!old) {
    if (name == "first") return value.Refuse("contradicts add_prefix_space: false");
    return PrependScheme::kNever;
  }
  if (name == "always") return PrependScheme::kAlways;
  if (name == "first") return PrependScheme::kFirst;
  if (name == "never") return PrependScheme::kNever;
  return value.Refuse("must be always, never or first");
}

}  // namespace trefoil
