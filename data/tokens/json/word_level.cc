#include "data/tokens/json/word_level.h"

#include <utility>

namespace trefoil {
namespace {

class WordLevel : public TokenModel {
 public:
  WordLevel(Vocabulary vocabulary, int32_t unknown) : TokenModel(std::move(vocabulary)), unknown_(unknown) {}

  std::string name() const override { return "WordLevel"; }
  int32_t unknown_id() const override { return unknown_; }
  void Encode(std::string_view piece, std::vector<int32_t>* ids) const override {
    const int32_t id = vocabulary_.Find(piece);
    ids->push_back(id < 0 ? unknown_ : id);
  }

 private:
  const int32_t unknown_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TokenModel>> ParseWordLevel(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "unk_token", "vocab"}));
  TREFOIL_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Parse(value.Get("vocab")));
  TREFOIL_ASSIGN_OR_RETURN(const std::string token, value.Get("unk_token").Text("<unk>"));
  const int32_t unknown = vocabulary.Find(token);
  if (unknown < 0) return value.Get("unk_token").Refuse("is not in model.vocab");
  return std::make_unique<WordLevel>(std::move(vocabulary), unknown);
}

}  // namespace trefoil
