#include "data/tokens/tokenizer.h"

#include <absl/strings/ascii.h>

#include <utility>

#include "data/tokens/json/json_tokenizer.h"
#include "data/tokens/sentencepiece_tokenizer.h"
#include "runtime/files/crc32c.h"

namespace trefoil {

Tokenizer::Tokenizer(TokenizerFiles files, std::unique_ptr<TokenizerKind> kind)
    : files_(std::move(files)), kind_(std::move(kind)) {}

absl::StatusOr<Tokenizer> Tokenizer::Train(std::span<const std::string> texts, int64_t vocabulary) {
  TREFOIL_ASSIGN_OR_RETURN(auto kind, SentencePieceTokenizer::Train(texts, vocabulary));
  TokenizerFiles files;
  files.content = kind->serialized();
  return Tokenizer(std::move(files), std::move(kind));
}

absl::StatusOr<Tokenizer> Tokenizer::Load(FileSystem& fs, const std::string& path) {
  TREFOIL_ASSIGN_OR_RETURN(TokenizerFiles files, ReadTokenizerFiles(fs, path));
  return Of(std::move(files), path);
}

absl::StatusOr<Tokenizer> Tokenizer::Of(TokenizerFiles files, const std::string& name) {
  std::unique_ptr<TokenizerKind> kind;
  if (files.json) {
    TREFOIL_ASSIGN_OR_RETURN(kind, JsonTokenizer::Parse(files.content, files.config, name));
  } else {
    TREFOIL_ASSIGN_OR_RETURN(kind, SentencePieceTokenizer::Parse(files.content, name));
  }
  return Tokenizer(std::move(files), std::move(kind));
}

absl::Status Tokenizer::Save(FileSystem& fs, const std::string& folder) const {
  return WriteTokenizerFiles(fs, folder, files_);
}

std::vector<bool> Tokenizer::BeginsWord() const {
  std::vector<bool> begins(static_cast<size_t>(vocabulary()));
  for (int32_t id = 0; id < vocabulary(); ++id) {
    const PieceKind kind = KindOf(id);
    const std::string surface = kind_->Surface(id);
    begins[id] = kind == PieceKind::kSymbol || kind == PieceKind::kUnknown ||
                 (!surface.empty() && (absl::ascii_isspace(surface[0]) ||
                                       (absl::ascii_ispunct(surface[0]) && surface[0] != '\'')));
  }
  return begins;
}

uint32_t Tokenizer::checksum() const { return Crc32c(files_.content); }

std::vector<int32_t> Tokenizer::EncodeDocument(std::string_view text) {
  std::vector<int32_t> ids = before_text();
  const std::vector<int32_t> own = Encode(text);
  ids.insert(ids.end(), own.begin(), own.end());
  if (ids.empty()) ids.push_back(end_of_text());
  return ids;
}

}  // namespace trefoil
