// UTF-8 (RFC 3629): how long is the character at the front of a text, if it is one?
//
//   Utf8Length("\xc3\xa9t\xc3\xa9")   // 2: "é"
//   Utf8Length("\xff")                // 0: not UTF-8
//   Utf8ValidBytes("ab\xff")          // 2
#pragma once

#include <cstddef>
#include <string_view>

namespace trefoil {

// Bytes of the first character of `text` (not empty): 1 to 4, or 0 where the bytes are no valid character: a stray or
// missing continuation, an overlong form, a surrogate, or beyond U+10FFFF.
inline size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) -> unsigned { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0; };
  const auto continues = [&](size_t i) { return (byte(i) & 0xc0) == 0x80; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xc2) return 0;
  if (first < 0xe0) return continues(1) ? 2 : 0;
  if (first < 0xf0) {
    if (!continues(1) || !continues(2)) return 0;
    if (first == 0xe0 && byte(1) < 0xa0) return 0;
    if (first == 0xed && byte(1) >= 0xa0) return 0;
    return 3;
  }
  if (first > 0xf4 || !continues(1) || !continues(2) || !continues(3)) return 0;
  if (first == 0xf0 && byte(1) < 0x90) return 0;
  if (first == 0xf4 && byte(1) >= 0x90) return 0;
  return 4;
}

// Bytes at the front of `text` that are valid UTF-8: all of them, or up to the first that is not.
inline size_t Utf8ValidBytes(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    const size_t length = Utf8Length(text.substr(at));
    if (length == 0) break;
    at += length;
  }
  return at;
}

// Largest cut <= at that does not split a character of `text`, as far as it is UTF-8.
inline size_t Utf8Cut(std::string_view text, size_t at) {
  for (size_t back = 0; back < 4 && back < at && at < text.size(); ++back) {
    if ((static_cast<unsigned char>(text[at - back]) & 0xc0) != 0x80) return at - back;
  }
  return at;
}

}  // namespace trefoil
