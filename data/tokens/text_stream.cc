#include "data/tokens/text_stream.h"

#include <string_view>
#include <utility>

namespace trefoil {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD: SentencePiece's for bytes that are no character yet

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
  if (sure.size() <= given_) return "";
  return std::string(sure.substr(std::exchange(given_, sure.size())));
}

}  // namespace trefoil
