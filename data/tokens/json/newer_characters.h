// Characters that Unicode 15 and 16 have added to the 14 that PCRE2 10.42 knows, by category: letters of new scripts,
// ideographs of extensions H and I, hieroglyphs, emoji. The `tokenizers` package (0.23) cuts text by 16.
//
//   NewerCharacters("L")    // "\x{1c89}-\x{1c89}\x{1c8a}...", for a class of a regular expression
//   NewerCharacters("Nd")
#pragma once

#include <string>
#include <string_view>

namespace trefoil {

// Those of a category, "Lu", or of all that begin with its letter, "L". Empty: none.
std::string NewerCharacters(std::string_view category);

}  // namespace trefoil
