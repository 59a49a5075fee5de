// Regular expressions of tokenizer.json files, by PCRE2 compiled to machine code.
//
//   TREFOIL_ASSIGN_OR_RETURN(Regex regex, Regex::Compile("\\p{N}{1,3}| ?\\p{L}+"));
//   for (Regex::Match match; regex.Find(text, match.end, &match);) ...
//
// The files' authors wrote for Oniguruma, in Ruby's dialect, which is what the `tokenizers` package has. What means the
// same in both is passed on; \s and \w and names of scripts, which mean a little less or more in PCRE2, are spelled
// out, and categories get the characters of newer_characters.h; what has another meaning there, or may have (\h,
// [a&&b], classes in classes, {2,3}+, options other than i, calls), is refused by name.
//
// Threads: one at a time per object.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "runtime/status.h"

namespace trefoil {

class Regex {
 public:
  struct Match {
    size_t begin = 0, end = 0;
  };

  static absl::StatusOr<Regex> Compile(std::string_view pattern);
  // Of a text that stands for itself, not empty.
  static Regex Literal(std::string_view text);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  // The first match that begins at `at` or later, in all of `text`, which is valid UTF-8; after an empty one, go on one
  // character later. Ends the process where a match takes more memory than 256 MiB: no pattern in use does.
  bool Find(std::string_view text, size_t at, Match* match) const;

 private:
  struct Compiled;
  explicit Regex(std::unique_ptr<Compiled> compiled);

  std::unique_ptr<Compiled> compiled_;
};

}  // namespace trefoil
