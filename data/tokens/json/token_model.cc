#include "data/tokens/json/token_model.h"

#include <absl/strings/str_format.h>

#include <algorithm>

#include "data/tokens/json/bpe.h"
#include "data/tokens/json/unigram.h"
#include "data/tokens/json/word_level.h"
#include "data/tokens/json/word_piece.h"

namespace trefoil {
namespace {

// Files from before the field are told by what they have.
std::string GuessedType(const JsonValue& value) {
  if (value.Get("vocab").IsArray()) return "Unigram";
  if (!value.Get("merges").IsNull()) return "BPE";
  return value.Get("max_input_chars_per_word").IsNull() ? "WordLevel" : "WordPiece";
}

}  // namespace

absl::StatusOr<std::unique_ptr<TokenModel>> ParseTokenModel(const JsonValue& value) {
  if (!value.IsObject()) return value.Refuse("must be an object");
  TREFOIL_ASSIGN_OR_RETURN(const std::string type, value.Get("type").Text(GuessedType(value)));
  if (type == "BPE") return ParseBpe(value);
  if (type == "WordPiece") return ParseWordPiece(value);
  if (type == "Unigram") return ParseUnigram(value);
  if (type == "WordLevel") return ParseWordLevel(value);
  return value.Get("type").Refuse("a model that is not known here; must be BPE, WordPiece, Unigram or WordLevel");
}

ByteTokens FindByteTokens(const Vocabulary& vocabulary) {
  ByteTokens tokens;
  for (int byte = 0; byte < 256; ++byte) tokens[byte] = vocabulary.Find(absl::StrFormat("<0x%02X>", byte));
  return tokens;
}

bool HasAll(const ByteTokens& tokens) { return std::find(tokens.begin(), tokens.end(), -1) == tokens.end(); }

}  // namespace trefoil
