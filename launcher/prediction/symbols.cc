#include "launcher/prediction/symbols.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <string_view>

#include "data/tasks/special_tokens.h"

namespace trefoil {

TextSymbols SymbolsInTexts(const TaskConfig& task) {
  TextSymbols symbols;
  if (task.kind() == TaskConfig::MASKED_TOKEN) {
    symbols.emplace_back("[MASK]", EncoderTokens(task.end_of_text(), task.first_symbol()).mask);
  }
  if (task.kind() == TaskConfig::SPAN_CORRUPTION) {
    for (int32_t i = 0; i < kSentinels; ++i) {
      symbols.emplace_back(absl::StrCat("<extra_id_", i, ">"), task.first_symbol() + i);
    }
  }
  return symbols;
}

std::vector<int32_t> EncodeWithSymbols(Tokenizer& tokenizer, const std::string& text, const TextSymbols& symbols) {
  std::vector<int32_t> ids;
  size_t begin = 0;
  while (begin <= text.size()) {
    size_t at = std::string::npos;
    const std::pair<std::string, int32_t>* found = nullptr;
    for (const auto& symbol : symbols) {
      const size_t first = text.find(symbol.first, begin);
      if (first < at) {
        at = first;
        found = &symbol;
      }
    }
    std::string before = text.substr(begin, at - begin);
    if (found != nullptr && before.ends_with(' ')) before.pop_back();
    const std::vector<int32_t> part = tokenizer.Encode(before, text.substr(0, begin));
    ids.insert(ids.end(), part.begin(), part.end());
    if (found == nullptr) break;
    ids.push_back(found->second);
    begin = at + found->first.size();
  }
  return ids;
}

std::string DecodeWithSymbols(const Tokenizer& tokenizer, std::span<const int32_t> ids, const TextSymbols& symbols) {
  std::string text;
  size_t begin = 0;
  for (size_t i = 0; i <= ids.size(); ++i) {
    if (i < ids.size() && ids[i] < tokenizer.vocabulary()) continue;
    text += tokenizer.Decode(ids.subspan(begin, i - begin));
    begin = i + 1;
    if (i == ids.size()) break;
    const auto is = [&](const auto& symbol) { return symbol.second == ids[i]; };
    text += std::find_if(symbols.begin(), symbols.end(), is)->first;
  }
  return text;
}

}  // namespace trefoil
