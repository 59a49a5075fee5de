// GPT-2's alphabet of bytes (Radford et al., 2019): each byte as a character that can be seen, so that a vocabulary of
// bytes is one of texts.
//
//   AppendByteCharacters(" naïve", &out);     // "ĠnaÃ¯ve"
//   AppendBytesOfCharacters("Ġna", &bytes);   // " na"
//
// Of a byte: 21 to 7E, A1 to AC and AE to FF stand for themselves, the other 68 in order for U+0100 and those after it.
#pragma once

#include <string>
#include <string_view>

namespace trefoil {

// The character of a byte, in UTF-8: 1 or 2 bytes.
std::string_view ByteCharacter(unsigned char byte);
void AppendByteCharacters(std::string_view bytes, std::string* out);
// False, with `out` as it was, if a character of `text` is of no byte.
bool AppendBytesOfCharacters(std::string_view text, std::string* out);

}  // namespace trefoil
