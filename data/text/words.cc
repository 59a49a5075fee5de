#include "data/text/words.h"

namespace trefoil {

std::vector<std::vector<int32_t>> EncodeWords(Tokenizer& tokenizer, std::span<const std::string> words) {
  std::vector<std::vector<int32_t>> ids;
  std::string before;
  for (const std::string& word : words) {
    const std::string text = ids.empty() ? word : " " + word;
    ids.push_back(tokenizer.Encode(text, before));
    before = text;
  }
  return ids;
}

}  // namespace trefoil
