#include "data/tokens/json/added_tokens.h"

#include <absl/strings/str_cat.h>

#include "data/tokens/json/unicode.h"

namespace trefoil {

void TokenFinder::Add(std::string text, const AddedToken* token) {
  if (text.empty()) return;
  first_bytes_.set(static_cast<unsigned char>(text[0]));
  const auto place = std::lower_bound(lengths_.begin(), lengths_.end(), text.size(), std::greater<>());
  if (place == lengths_.end() || *place != text.size()) lengths_.insert(place, text.size());
  tokens_.try_emplace(std::move(text), token);
}

const AddedToken* TokenFinder::Next(std::string_view text, size_t* at) const {
  if (tokens_.empty()) return nullptr;
  for (size_t i = *at; i < text.size(); ++i) {
    if (!first_bytes_[static_cast<unsigned char>(text[i])]) continue;
    for (const size_t length : lengths_) {
      if (length > text.size() - i) continue;
      const auto found = tokens_.find(absl::string_view(text.data() + i, length));
      if (found == tokens_.end()) continue;
      *at = i;
      found_bytes_ = length;
      return found->second;
    }
  }
  return nullptr;
}

bool TokenFinder::StandsAlone(std::string_view text, size_t begin, size_t end) {
  size_t bytes = 0;
  return (begin == 0 || !IsWordCharacter(BackCharacter(text.substr(0, begin)))) &&
         (end == text.size() || !IsWordCharacter(FrontCharacter(text.substr(end), &bytes)));
}

size_t TokenFinder::SpaceBefore(std::string_view text, size_t at) {
  while (at > 0 && IsSpace(BackCharacter(text.substr(0, at)))) {
    do --at;
    while (at > 0 && (text[at] & 0xc0) == 0x80);
  }
  return at;
}

size_t TokenFinder::SpaceAfter(std::string_view text, size_t at) {
  size_t bytes = 0;
  while (at < text.size() && IsSpace(FrontCharacter(text.substr(at), &bytes))) at += bytes;
  return at;
}

absl::StatusOr<AddedTokens> AddedTokens::Parse(const JsonValue& value, const Vocabulary& model) {
  AddedTokens added;
  if (value.IsNull()) return added;
  TREFOIL_ASSIGN_OR_RETURN(const auto items, value.Items());
  int64_t largest = -1;
  for (const JsonValue& item : items) {
    TREFOIL_RETURN_IF_ERROR(
        item.HasOnly({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}));
    AddedToken token;
    TREFOIL_ASSIGN_OR_RETURN(token.content, item.Get("content").Text());
    TREFOIL_ASSIGN_OR_RETURN(token.single_word, item.Get("single_word").Bool(false));
    TREFOIL_ASSIGN_OR_RETURN(token.lstrip, item.Get("lstrip").Bool(false));
    TREFOIL_ASSIGN_OR_RETURN(token.rstrip, item.Get("rstrip").Bool(false));
    TREFOIL_ASSIGN_OR_RETURN(token.special, item.Get("special").Bool(false));
    TREFOIL_ASSIGN_OR_RETURN(token.normalized, item.Get("normalized").Bool(!token.special));
    TREFOIL_ASSIGN_OR_RETURN(const int64_t id, item.Get("id").Integer());
    if (token.content.empty()) return item.Get("content").Refuse("must not be empty");
    if (added.Find(token.content) != nullptr) return item.Get("content").Refuse("is there twice");
    int64_t expected = model.Find(token.content);
    if (expected < 0) expected = largest >= model.count() ? largest + 1 : model.count();
    if (id != expected) return item.Get("id").Refuse(absl::StrCat("of ", token.content, " must be ", expected));
    if (id >= Vocabulary::kMost) return item.Get("id").Refuse(absl::StrCat("must be in [0, ", Vocabulary::kMost, ")"));
    largest = std::max(largest, id);
    token.id = static_cast<int32_t>(id);
    added.by_id_.emplace(token.id, added.tokens_.size());
    added.by_content_.emplace(token.content, added.tokens_.size());
    added.tokens_.push_back(std::move(token));
  }
  return added;
}

const AddedToken* AddedTokens::Find(int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

const AddedToken* AddedTokens::Find(std::string_view content) const {
  const auto found = by_content_.find(absl::string_view(content.data(), content.size()));
  return found == by_content_.end() ? nullptr : &tokens_[found->second];
}

}  // namespace trefoil
