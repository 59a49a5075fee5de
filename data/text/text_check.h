// Is a file text? What is taken for text and is none would be trained on in silence, a token a byte.
//
//   TextCheck check("corpus/a.txt");
//   TREFOIL_RETURN_IF_ERROR(check.Add(part));      // part after part of the file, cut between characters
//   check.bad_bytes();                             // so far, that are not UTF-8
//
// Text is UTF-8 (RFC 3629) without NUL. A stray byte here and there is fine, as web pages have them: the tokenizer spells
// it as a byte. Refused are NUL bytes, which binary files and UTF-16 have, and a share of bytes that are not UTF-8 above
// kMostBad once kEnough bytes were seen or the text ended, as with Latin-1 and other encodings of one byte a character.
//
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/status.h"

namespace trefoil {

class TextCheck {
 public:
  static constexpr double kMostBad = 1e-3;
  static constexpr int64_t kEnough = int64_t{64} << 10;

  // `path` is for messages.
  explicit TextCheck(std::string path) : path_(std::move(path)) {}

  // `last`: no more follows. Failure: the text is refused, with what was found and what to do about it.
  absl::Status Add(std::string_view text, bool last);
  int64_t bytes() const { return bytes_; }
  int64_t bad_bytes() const { return bad_bytes_; }

 private:
  const std::string path_;
  int64_t bytes_ = 0, bad_bytes_ = 0;
  unsigned char first_bad_ = 0;
  bool utf16_mark_ = false;
};

}  // namespace trefoil
