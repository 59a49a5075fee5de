// Tokens of a tokenizer.json by id and by text.
//
//   TREFOIL_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Parse(model.Get("vocab")));   // {"<unk>": 0, "a": 1}
//   vocabulary.Find("a");   // 1
#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokens/json/json_value.h"
#include "runtime/status.h"

namespace trefoil {

class Vocabulary {
 public:
  static constexpr int64_t kMost = int64_t{1} << 23;  // ids; the largest in use have some 256,000

  static absl::StatusOr<Vocabulary> Parse(const JsonValue& object);

  // -1: none.
  int32_t Find(std::string_view token) const {
    const auto found = ids_.find(absl::string_view(token.data(), token.size()));
    return found == ids_.end() ? -1 : found->second;
  }
  bool Has(int32_t id) const { return id >= 0 && id < size() && present_[id]; }
  const std::string& Token(int32_t id) const { return tokens_[id]; }
  // Ids are in [0, size()); not each may stand for something.
  int32_t size() const { return static_cast<int32_t>(tokens_.size()); }
  // How many do.
  int32_t count() const { return count_; }
  // False if the id or the token is there, or the id is not in [0, kMost).
  bool Add(std::string token, int64_t id);

 private:
  absl::flat_hash_map<std::string, int32_t> ids_;
  std::vector<std::string> tokens_;
  std::vector<bool> present_;
  int32_t count_ = 0;
};

}  // namespace trefoil
