// A pattern of a tokenizer.json, {"String": " "} or {"Regex": " {2,}"}, and what to do where it is found.
//
//   TREFOIL_ASSIGN_OR_RETURN(Regex pattern, ParsePattern(value.Get("pattern")));
//   ReplaceAll(pattern, "▁", &text);
#pragma once

#include <string>
#include <string_view>

#include "data/tokens/json/json_value.h"
#include "data/tokens/json/regex.h"
#include "runtime/status.h"

namespace trefoil {

absl::StatusOr<Regex> ParsePattern(const JsonValue& value);

// Calls found(begin, end, whether it matches) for every part of `text`, in order; none is empty.
template <typename Found>
void ForEachPart(const Regex& pattern, std::string_view text, const Found& found) {
  size_t done = 0, at = 0;
  for (Regex::Match match; pattern.Find(text, at, &match);) {
    at = match.end;
    if (match.begin == match.end) {
      // One character later; the end of the text is not cut.
      do ++at;
      while (at < text.size() && (text[at] & 0xc0) == 0x80);
      if (match.begin > done) found(done, match.begin, false);
      done = match.begin;
      continue;
    }
    if (match.begin > done) found(done, match.begin, false);
    found(match.begin, match.end, true);
    done = match.end;
  }
  if (done < text.size()) found(done, text.size(), false);
}

void ReplaceAll(const Regex& pattern, std::string_view with, std::string* text);

}  // namespace trefoil
