#include "data/tokens/json/special_symbols.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "data/tokens/json/json_value.h"

namespace trefoil {
namespace {

constexpr const char* kEnds[] = {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>",
                                 "<|im_end|>",    "<|eot_id|>",      "[SEP]"};

// Of a token's name, as a text or in an object; -1 of null.
absl::StatusOr<int32_t> IdOf(JsonValue value, const AddedTokens& added, const Vocabulary& vocabulary) {
  if (value.IsNull()) return -1;
  if (value.IsObject()) value = value.Get("content");
  TREFOIL_ASSIGN_OR_RETURN(const std::string token, value.Text());
  const AddedToken* of_added = added.Find(token);
  const int32_t id = of_added != nullptr ? of_added->id : vocabulary.Find(token);
  if (id < 0) return value.Refuse("is not a token of tokenizer.json");
  return id;
}

absl::Status InConfig(const absl::Status& status) {
  return absl::InvalidArgumentError(absl::StrCat("tokenizer_config.json beside it: ", status.message()));
}

}  // namespace

absl::StatusOr<SpecialSymbols> FindSpecialSymbols(const std::string& config, const AddedTokens& added,
                                                  const Vocabulary& vocabulary) {
  SpecialSymbols symbols;
  if (!config.empty()) {
    const absl::StatusOr<JsonFile> file = JsonFile::Parse(config);
    if (!file.ok()) return InConfig(file.status());
    if (!file->root().IsObject()) return InConfig(file->root().Refuse("must be an object"));
    const auto begin = IdOf(file->root().Get("bos_token"), added, vocabulary);
    if (!begin.ok()) return InConfig(begin.status());
    const auto end = IdOf(file->root().Get("eos_token"), added, vocabulary);
    if (!end.ok()) return InConfig(end.status());
    symbols = {.begin = *begin, .end = *end};
  }
  for (const char* name : kEnds) {
    if (symbols.end >= 0) break;
    const AddedToken* token = added.Find(name);
    if (token != nullptr && token->special) symbols.end = token->id;
  }
  if (symbols.end < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "has no token to end texts: eos_token in a tokenizer_config.json beside it names one, or an added token is one "
        "of ",
        absl::StrJoin(kEnds, ", ")));
  }
  return symbols;
}

}  // namespace trefoil
