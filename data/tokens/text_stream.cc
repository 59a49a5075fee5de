#include "data/tokens/text_stream.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace trefoil {
namespace {

constexpr std::string_view kReplacement =
    "\xef\xbf\xbd";  // U+FFFD: SentencePiece's for bytes that are no character yet

// Bytes at the end of `text` that may be the beginning of a character: at most 3.
size_t UnfinishedBytes(std::string_view text) {
  for (size_t bytes = 1; bytes <= std::min<size_t>(3, text.size()); ++bytes) {
    const auto first = static_cast<unsigned char>(text[text.size() - bytes]);
    if ((first & 0xc0) == 0x80) continue;
    const size_t whole = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 1;
    return whole > bytes ? bytes : 0;
  }
  return 0;
}

}  // namespace

TextStream::TextStream(const Tokenizer& tokenizer, std::vector<int32_t> before)
    : tokenizer_(tokenizer), ids_(std::move(before)) {
  More(/*all=*/false);
}

std::string TextStream::Add(int32_t id) {
  ids_.push_back(id);
  return More(/*all=*/false);
}

std::string TextStream::End() { return More(/*all=*/true); }

std::string TextStream::More(bool all) {
  const std::string text = tokenizer_.Decode(ids_);
  std::string_view sure = text;
  while (!all && sure.ends_with(kReplacement)) sure.remove_suffix(kReplacement.size());
  if (!all) sure.remove_suffix(UnfinishedBytes(sure));
  if (sure.size() <= given_) return "";
  return std::string(sure.substr(std::exchange(given_, sure.size())));
}

}  // namespace trefoil
