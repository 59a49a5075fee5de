#include "data/tokens/json/pattern.h"

namespace trefoil {

absl::StatusOr<Regex> ParsePattern(const JsonValue& value) {
  if (value.IsText()) {
    TREFOIL_ASSIGN_OR_RETURN(const std::string text, value.Text());
    if (text.empty()) return value.Refuse("must not be empty");
    return Regex::Literal(text);
  }
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"String", "Regex"}));
  const JsonValue text = value.Get("String"), regex = value.Get("Regex");
  if (text.IsNull() == regex.IsNull()) return value.Refuse("must have one of String and Regex");
  if (regex.IsNull()) return ParsePattern(text);
  TREFOIL_ASSIGN_OR_RETURN(const std::string pattern, regex.Text());
  absl::StatusOr<Regex> compiled = Regex::Compile(pattern);
  if (!compiled.ok()) return regex.Refuse(std::string(compiled.status().message()));
  return compiled;
}

void ReplaceAll(const Regex& pattern, std::string_view with, std::string* text) {
  std::string out;
  ForEachPart(pattern, *text, [&](size_t begin, size_t end, bool matches) {
    out += matches ? with : std::string_view(*text).substr(begin, end - begin);
  });
  *text = std::move(out);
}

}  // namespace trefoil
