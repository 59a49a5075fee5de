#include "data/tokens/json/json_tokenizer.h"

#include <absl/memory/memory.h>
#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "data/text/utf8.h"
#include "data/tokens/json/byte_alphabet.h"

namespace trefoil {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

// Bytes at the front of `text` that are no text, up to where it goes on.
size_t OddBytesOf(std::string_view text) {
  size_t at = 0;
  while (at < text.size() && Utf8Length(text.substr(at)) == 0) ++at;
  return at;
}

}  // namespace

absl::StatusOr<std::unique_ptr<JsonTokenizer>> JsonTokenizer::Parse(const std::string& content,
                                                                    const std::string& config,
                                                                    const std::string& name) {
  auto tokenizer = absl::WrapUnique(new JsonTokenizer());
  if (const absl::Status status = tokenizer->ParseParts(content, config); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat(name, ": ", status.message()));
  }
  return tokenizer;
}

absl::Status JsonTokenizer::ParseParts(const std::string& content, const std::string& config) {
  TREFOIL_ASSIGN_OR_RETURN(const JsonFile file, JsonFile::Parse(content));
  const JsonValue root = file.root();
  TREFOIL_RETURN_IF_ERROR(root.HasOnly({"version", "truncation", "padding", "added_tokens", "normalizer",
                                        "pre_tokenizer", "post_processor", "decoder", "model"}));
  if (const JsonValue version = root.Get("version"); !version.IsNull()) {
    TREFOIL_ASSIGN_OR_RETURN(const std::string text, version.Text());
    if (text != "1.0") return version.Refuse("must be \"1.0\"");
  }
  TREFOIL_ASSIGN_OR_RETURN(normalizer_, ParseNormalizer(root.Get("normalizer")));
  TREFOIL_ASSIGN_OR_RETURN(pre_tokenizer_, ParsePreTokenizer(root.Get("pre_tokenizer")));
  TREFOIL_ASSIGN_OR_RETURN(model_, ParseTokenModel(root.Get("model")));
  TREFOIL_ASSIGN_OR_RETURN(decoder_, ParseDecoder(root.Get("decoder")));
  TREFOIL_ASSIGN_OR_RETURN(added_, AddedTokens::Parse(root.Get("added_tokens"), model_->vocabulary()));
  size_ = model_->vocabulary().size();
  for (const AddedToken& token : added_.tokens()) size_ = std::max<int64_t>(size_, token.id + 1);
  if (size_ == 0) return root.Get("model").Get("vocab").Refuse("has no token");
  TREFOIL_ASSIGN_OR_RETURN(frame_, ParsePostProcessor(root.Get("post_processor"), size_));
  TREFOIL_ASSIGN_OR_RETURN(symbols_, FindSpecialSymbols(config, added_, model_->vocabulary()));
  if (symbols_.begin < 0 && !frame_.before.empty()) symbols_.begin = frame_.before.front();
  FindAddedTokens();

  byte_tokens_ = FindByteTokens(model_->vocabulary());
  bool alphabet = pre_tokenizer_ != nullptr && pre_tokenizer_->of_bytes();
  for (int byte = 0; byte < 256; ++byte) {
    alphabet = alphabet && model_->vocabulary().Find(ByteCharacter(static_cast<unsigned char>(byte))) >= 0;
  }
  if (alphabet) odd_bytes_ = OddBytes::kAlphabet;
  if (model_->falls_back_on_bytes()) odd_bytes_ = OddBytes::kFallback;
  exact_ = alphabet && pre_tokenizer_->keeps_all() && Probe();
  return absl::OkStatus();
}

void JsonTokenizer::FindAddedTokens() {
  // The package gives special ones the first word.
  for (const bool special : {true, false}) {
    for (const AddedToken& token : added_.tokens()) {
      if (token.special != special) continue;
      std::string text = token.content;
      if (token.normalized && normalizer_ != nullptr) normalizer_->Normalize(/*continues=*/false, &text);
      (token.normalized ? normalized_finder_ : raw_finder_).Add(std::move(text), &token);
    }
  }
}

// Normalisation shows on texts that composition, compatibility, case folding, or the trimming of spaces would change.
bool JsonTokenizer::Probe() {
  for (const char* text :
       {"a", " a", "  a  b ", "\t\xef\xac\x81 \xe2\x91\xa0\xc3\x85 e\xcc\x81 A\xc2\xa0\xe3\x80\x80z ", "\n \n\n\n",
        "\xe2\x84\xab\xed\x95\x9c\xe1\x84\x92\xe1\x85\xa1 \xe2\x96\x81 <0x41>", "\xff a\xc3"}) {
    if (Decode(Encode(text, {})) != text) return false;
  }
  return true;
}

std::vector<int32_t> JsonTokenizer::Encode(std::string_view text, std::string_view before) {
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3);
  std::string replaced;
  if (odd_bytes_ == OddBytes::kReplaced && Utf8ValidBytes(text) < text.size()) {
    for (size_t at = 0; at < text.size();) {
      const size_t valid = Utf8ValidBytes(text.substr(at));
      replaced += text.substr(at, valid);
      at += valid;
      for (size_t odd = OddBytesOf(text.substr(at)); odd > 0; --odd, ++at) replaced += kReplacement;
    }
    text = replaced;
  }
  for (size_t at = 0; at < text.size();) {
    const size_t valid = Utf8ValidBytes(text.substr(at));
    if (valid > 0) EncodeValid(text.substr(at, valid), at == 0 && before.empty(), at > 0 || !before.empty(), &ids);
    at += valid;
    const size_t odd = OddBytesOf(text.substr(at));
    if (odd > 0) EncodeOddBytes(text.substr(at, odd), &ids);
    at += odd;
  }
  return ids;
}

void JsonTokenizer::EncodeOddBytes(std::string_view bytes, std::vector<int32_t>* ids) {
  if (odd_bytes_ == OddBytes::kFallback) {
    for (const char byte : bytes) ids->push_back(byte_tokens_[static_cast<unsigned char>(byte)]);
    return;
  }
  std::string characters;
  AppendByteCharacters(bytes, &characters);
  EncodePiece(characters, ids);
}

void JsonTokenizer::EncodeValid(std::string_view text, bool begins_text, bool continues, std::vector<int32_t>* ids) {
  raw_finder_.Split(text, [&](std::string_view part, int32_t id) {
    if (id >= 0) return ids->push_back(id);
    const bool first = part.data() == text.data();
    const bool begins = begins_text && first, follows = continues && first;
    if (normalizer_ == nullptr) return EncodeNormalized(part, begins, follows, ids);
    std::string normalized(part);
    normalizer_->Normalize(follows, &normalized);
    EncodeNormalized(normalized, begins, follows, ids);
  });
}

void JsonTokenizer::EncodeNormalized(std::string_view text, bool begins_text, bool continues,
                                     std::vector<int32_t>* ids) {
  normalized_finder_.Split(text, [&](std::string_view part, int32_t id) {
    if (id >= 0) return ids->push_back(id);
    if (pre_tokenizer_ == nullptr) return EncodePiece(part, ids);
    const bool first = part.data() == text.data();
    pre_tokenizer_->Cut({.text = part, .begins_text = begins_text && first, .continues = continues && first},
                        [&](const TextPiece& piece) { EncodePiece(piece.text, ids); });
  });
}

void JsonTokenizer::EncodePiece(std::string_view piece, std::vector<int32_t>* ids) {
  const auto append = [&](std::string_view word) {
    words_.Append(word, [&](std::vector<int32_t>* out) { model_->Encode(word, out); }, ids);
  };
  if (piece.size() > WordCache::kLongestWord) return model_->Cut(piece, append);
  append(piece);
}

std::string JsonTokenizer::Decode(std::span<const int32_t> ids) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int32_t id : ids) {
    CHECK(id >= 0 && id < size_) << "id " << id << ", vocabulary " << size_;
    const AddedToken* added = added_.Find(id);
    if (added != nullptr ? !added->special : model_->vocabulary().Has(id)) tokens.emplace_back(Piece(id));
  }
  decoder_->Decode(&tokens);
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text;
}

std::string JsonTokenizer::Description() const {
  const bool alphabet = pre_tokenizer_ != nullptr && pre_tokenizer_->of_bytes();
  return absl::StrCat(model_->name(), alphabet ? " on bytes" : "", " (tokenizer.json)");
}

PieceKind JsonTokenizer::KindOf(int32_t id) const {
  if (id == model_->unknown_id()) return PieceKind::kUnknown;
  if (const AddedToken* added = added_.Find(id)) return added->special ? PieceKind::kSymbol : PieceKind::kText;
  if (!model_->vocabulary().Has(id)) return PieceKind::kNone;
  const bool byte =
      model_->falls_back_on_bytes() && std::find(byte_tokens_.begin(), byte_tokens_.end(), id) != byte_tokens_.end();
  return byte ? PieceKind::kByte : PieceKind::kText;
}

std::string_view JsonTokenizer::Piece(int32_t id) const {
  if (const AddedToken* added = added_.Find(id)) return added->content;
  return model_->vocabulary().Has(id) ? std::string_view(model_->vocabulary().Token(id)) : std::string_view();
}

// Behind another token, so that what a text begins with is not left out.
std::string JsonTokenizer::Surface(int32_t id) const {
  const PieceKind kind = KindOf(id);
  if (kind != PieceKind::kText && kind != PieceKind::kByte) return "";
  std::vector<std::string> tokens = {"a", std::string(Piece(id))};
  decoder_->Decode(&tokens);
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text.empty() ? text : text.substr(1);
}

}  // namespace trefoil
