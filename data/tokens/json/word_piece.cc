#include "data/tokens/json/word_piece.h"

#include <algorithm>
#include <utility>

namespace trefoil {
namespace {

bool Continues(char byte) { return (byte & 0xc0) == 0x80; }

class WordPiece : public TokenModel {
 public:
  WordPiece(Vocabulary vocabulary, int32_t unknown, std::string prefix, int64_t longest)
      : TokenModel(std::move(vocabulary)), unknown_(unknown), prefix_(std::move(prefix)), longest_word_(longest) {
    for (int32_t id = 0; id < vocabulary_.size(); ++id)
      longest_token_ = std::max(longest_token_, vocabulary_.Token(id).size());
  }

  std::string name() const override { return "WordPiece"; }
  int32_t unknown_id() const override { return unknown_; }

  void Encode(std::string_view piece, std::vector<int32_t>* ids) const override {
    const auto characters = std::count_if(piece.begin(), piece.end(), [](char c) { return !Continues(c); });
    if (characters > longest_word_) return ids->push_back(unknown_);
    const size_t before = ids->size();
    std::string token;
    for (size_t begin = 0; begin < piece.size();) {
      token = begin == 0 ? "" : prefix_;
      const size_t prefix = token.size();
      const size_t room = longest_token_ < prefix ? 0 : longest_token_ - prefix;
      size_t bytes = std::min(piece.size() - begin, room);
      while (bytes > 0 && begin + bytes < piece.size() && Continues(piece[begin + bytes])) --bytes;
      token.append(piece.substr(begin, bytes));
      int32_t id = -1;
      while (bytes > 0 && (id = vocabulary_.Find(token)) < 0) {
        do --bytes;
        while (bytes > 0 && Continues(piece[begin + bytes]));
        token.resize(prefix + bytes);
      }
      if (bytes == 0) {
        ids->resize(before);
        return ids->push_back(unknown_);
      }
      ids->push_back(id);
      begin += bytes;
    }
  }

 private:
  const int32_t unknown_;
  const std::string prefix_;
  const int64_t longest_word_;
  size_t longest_token_ = 0;  // bytes
};

}  // namespace

absl::StatusOr<std::unique_ptr<TokenModel>> ParseWordPiece(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(
      value.HasOnly({"type", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"}));
  TREFOIL_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Parse(value.Get("vocab")));
  TREFOIL_ASSIGN_OR_RETURN(const std::string token, value.Get("unk_token").Text("[UNK]"));
  TREFOIL_ASSIGN_OR_RETURN(std::string prefix, value.Get("continuing_subword_prefix").Text("##"));
  TREFOIL_ASSIGN_OR_RETURN(const int64_t longest, value.Get("max_input_chars_per_word").Integer(100));
  const int32_t unknown = vocabulary.Find(token);
  if (unknown < 0) return value.Get("unk_token").Refuse("is not in model.vocab");
  return std::make_unique<WordPiece>(std::move(vocabulary), unknown, std::move(prefix), longest);
}

}  // namespace trefoil
