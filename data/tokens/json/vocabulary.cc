#include "data/tokens/json/vocabulary.h"

#include <absl/strings/str_cat.h>

#include <nlohmann/json.hpp>
#include <utility>

namespace trefoil {

absl::StatusOr<Vocabulary> Vocabulary::Parse(const JsonValue& object) {
  if (!object.IsObject()) return object.Refuse("must be an object: an id of each token");
  Vocabulary vocabulary;
  vocabulary.ids_.reserve(object.raw().size());
  for (const auto& [token, value] : object.raw().items()) {
    TREFOIL_ASSIGN_OR_RETURN(const int64_t id, JsonValue(&value, absl::StrCat(object.path(), ".", token)).Integer());
    if (!vocabulary.Add(token, id)) {
      return object.Get(token).Refuse(id < 0 || id >= kMost ? absl::StrCat("must be in [0, ", kMost, ")")
                                                            : "another token has this id");
    }
  }
  return vocabulary;
}

bool Vocabulary::Add(std::string token, int64_t id) {
  if (id < 0 || id >= kMost || Has(static_cast<int32_t>(id)) || ids_.contains(token)) return false;
  if (id >= size()) {
    tokens_.resize(static_cast<size_t>(id) + 1);
    present_.resize(static_cast<size_t>(id) + 1);
  }
  ids_.emplace(token, static_cast<int32_t>(id));
  tokens_[id] = std::move(token);
  present_[id] = true;
  ++count_;
  return true;
}

}  // namespace trefoil
