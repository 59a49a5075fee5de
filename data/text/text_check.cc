#include "data/text/text_check.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>

#include "data/text/utf8.h"

namespace trefoil {

absl::Status TextCheck::Add(std::string_view text, bool last) {
  if (bytes_ == 0) utf16_mark_ = text.substr(0, 2) == "\xff\xfe" || text.substr(0, 2) == "\xfe\xff";
  constexpr char kAdvice[] = "text is to be UTF-8; convert it, or take its bytes as they are with --allow_binary";
  if (text.find('\0') != std::string_view::npos || utf16_mark_) {
    // Most letters of Latin scripts have one NUL in UTF-16: all before the letter, or all behind it.
    int64_t nul = 0, at_odd = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      nul += text[i] == '\0';
      at_odd += text[i] == '\0' && i % 2 == 1;
    }
    const bool utf16 = nul * 4 > static_cast<int64_t>(text.size()) && (at_odd * 20 < nul || at_odd * 20 > nul * 19);
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: not text: %d of %d bytes in a row are NUL%s; %s", path_, nul, text.size(),
        utf16_mark_ ? ", and it begins with the mark of UTF-16 (iconv -f UTF-16 -t UTF-8)"
        : utf16 ? ", as in UTF-16 (iconv -f UTF-16LE -t UTF-8)"
                : ", as in binary files",
        kAdvice));
  }
  bytes_ += static_cast<int64_t>(text.size());
  while (!text.empty()) {
    const size_t length = Utf8Length(text);
    if (length == 0 && bad_bytes_++ == 0) first_bad_ = static_cast<unsigned char>(text[0]);
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  if ((last || bytes_ >= kEnough) && static_cast<double>(bad_bytes_) > kMostBad * static_cast<double>(bytes_)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: %.2g%% of %d bytes are not UTF-8 (the first is 0x%02x), as in Latin-1 (iconv -f LATIN1 -t UTF-8) or binary "
        "files; %s",
        path_, 100.0 * static_cast<double>(bad_bytes_) / static_cast<double>(bytes_), bytes_, first_bad_, kAdvice));
  }
  return absl::OkStatus();
}

}  // namespace trefoil
