#include "data/tokens/json/decoder.h"

#include <absl/strings/match.h>
#include <absl/strings/str_replace.h>

#include <cctype>
#include <cstdlib>
#include <utility>

#include "data/text/utf8.h"
#include "data/tokens/json/byte_alphabet.h"
#include "data/tokens/json/pattern.h"
#include "data/tokens/json/prepend_scheme.h"

namespace trefoil {
namespace {

using Parsed = absl::StatusOr<std::unique_ptr<Decoder>>;
using Tokens = std::vector<std::string>;

// Another decoder before may have put together bytes that are no text.
bool IsValid(std::string_view token) { return Utf8ValidBytes(token) == token.size(); }

class Spaces : public Decoder {
 public:
  void Decode(Tokens* tokens) const override {
    for (size_t i = 1; i < tokens->size(); ++i) (*tokens)[i].insert(0, " ");
  }
};

// One that needs no options.
class Plain : public Decoder {
 public:
  explicit Plain(void (*decode)(Tokens*)) : decode_(decode) {}
  void Decode(Tokens* tokens) const override { decode_(tokens); }

 private:
  void (*const decode_)(Tokens*);
};

void FuseTokens(Tokens* tokens) {
  std::string all;
  for (const std::string& token : *tokens) all += token;
  *tokens = {std::move(all)};
}

void BytesOfTokens(Tokens* tokens) {
  std::string all;
  for (const std::string& token : *tokens) {
    if (!IsValid(token) || !AppendBytesOfCharacters(token, &all)) all += token;
  }
  *tokens = {std::move(all)};
}

// "<0x0A>": the byte; several in a row are one text.
void BytesOfFallback(Tokens* tokens) {
  Tokens out;
  bool bytes = false;
  for (std::string& token : *tokens) {
    const bool byte = token.size() == 6 && absl::StartsWith(token, "<0x") && token[5] == '>' &&
                      std::isxdigit(static_cast<unsigned char>(token[3])) &&
                      std::isxdigit(static_cast<unsigned char>(token[4]));
    if (byte) {
      if (!bytes) out.emplace_back();
      out.back() += static_cast<char>(std::strtol(token.c_str() + 3, nullptr, 16));
    } else {
      out.push_back(std::move(token));
    }
    bytes = byte;
  }
  *tokens = std::move(out);
}

class Sequence : public Decoder {
 public:
  explicit Sequence(std::vector<std::unique_ptr<Decoder>> parts) : parts_(std::move(parts)) {}
  void Decode(Tokens* tokens) const override {
    for (const auto& part : parts_) part->Decode(tokens);
  }

 private:
  const std::vector<std::unique_ptr<Decoder>> parts_;
};

Parsed ParseSequence(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "decoders"}));
  TREFOIL_ASSIGN_OR_RETURN(const auto items, value.Get("decoders").Items());
  std::vector<std::unique_ptr<Decoder>> parts;
  for (const JsonValue& item : items) {
    if (item.IsNull()) return item.Refuse("must be an object");
    TREFOIL_ASSIGN_OR_RETURN(parts.emplace_back(), ParseDecoder(item));
  }
  return std::make_unique<Sequence>(std::move(parts));
}

class WordPieces : public Decoder {
 public:
  WordPieces(std::string prefix, bool cleanup) : prefix_(std::move(prefix)), cleanup_(cleanup) {}
  void Decode(Tokens* tokens) const override {
    for (size_t i = 0; i < tokens->size(); ++i) {
      std::string& token = (*tokens)[i];
      if (i > 0) {
        if (absl::StartsWith(token, prefix_)) {
          token.erase(0, prefix_.size());
        } else {
          token.insert(0, " ");
        }
      }
      if (cleanup_) Clean(&token);
    }
  }

 private:
  // Spaces that English does not write; one after the other.
  static void Clean(std::string* token) {
    static constexpr const char* kWritten[][2] = {{" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
                                                  {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
                                                  {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (const auto& [spaced, written] : kWritten) absl::StrReplaceAll({{spaced, written}}, token);
  }

  const std::string prefix_;
  const bool cleanup_;
};

Parsed ParseWordPieces(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "prefix", "cleanup"}));
  TREFOIL_ASSIGN_OR_RETURN(std::string prefix, value.Get("prefix").Text("##"));
  TREFOIL_ASSIGN_OR_RETURN(const bool cleanup, value.Get("cleanup").Bool(true));
  return std::make_unique<WordPieces>(std::move(prefix), cleanup);
}

class Metaspace : public Decoder {
 public:
  Metaspace(std::string replacement, PrependScheme scheme) : replacement_(std::move(replacement)), scheme_(scheme) {}
  void Decode(Tokens* tokens) const override {
    for (size_t i = 0; i < tokens->size(); ++i) {
      const bool drops = i == 0 && scheme_ != PrependScheme::kNever;
      absl::StrReplaceAll({{replacement_, drops ? "" : " "}}, &(*tokens)[i]);
    }
  }

 private:
  const std::string replacement_;
  const PrependScheme scheme_;
};

Parsed ParseMetaspace(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(
      value.HasOnly({"type", "replacement", "str_rep", "add_prefix_space", "prepend_scheme", "split"}));
  TREFOIL_ASSIGN_OR_RETURN(std::string replacement, value.Get("replacement").Character());
  TREFOIL_ASSIGN_OR_RETURN(const PrependScheme scheme, ParsePrependScheme(value));
  return std::make_unique<Metaspace>(std::move(replacement), scheme);
}

class WordEnds : public Decoder {
 public:
  explicit WordEnds(std::string suffix) : suffix_(std::move(suffix)) {}
  void Decode(Tokens* tokens) const override {
    for (size_t i = 0; i < tokens->size(); ++i) {
      absl::StrReplaceAll({{suffix_, i + 1 == tokens->size() ? "" : " "}}, &(*tokens)[i]);
    }
  }

 private:
  const std::string suffix_;
};

Parsed ParseWordEnds(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "suffix"}));
  TREFOIL_ASSIGN_OR_RETURN(std::string suffix, value.Get("suffix").Text("</w>"));
  if (suffix.empty()) return value.Get("suffix").Refuse("must not be empty");
  return std::make_unique<WordEnds>(std::move(suffix));
}

class Strip : public Decoder {
 public:
  Strip(std::string content, int64_t start, int64_t stop) : content_(std::move(content)), start_(start), stop_(stop) {}
  void Decode(Tokens* tokens) const override {
    for (std::string& token : *tokens) {
      size_t begin = 0, end = token.size();
      for (int64_t i = 0; i < start_ && token.compare(begin, content_.size(), content_) == 0; ++i)
        begin += content_.size();
      for (int64_t i = 0; i < stop_ && end >= begin + content_.size() &&
                          token.compare(end - content_.size(), content_.size(), content_) == 0;
           ++i) {
        end -= content_.size();
      }
      token = token.substr(begin, end - begin);
    }
  }

 private:
  const std::string content_;
  const int64_t start_, stop_;
};

Parsed ParseStrip(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "content", "start", "stop"}));
  TREFOIL_ASSIGN_OR_RETURN(std::string content, value.Get("content").Character());
  TREFOIL_ASSIGN_OR_RETURN(const int64_t start, value.Get("start").Integer());
  TREFOIL_ASSIGN_OR_RETURN(const int64_t stop, value.Get("stop").Integer());
  return std::make_unique<Strip>(std::move(content), start, stop);
}

class Replace : public Decoder {
 public:
  Replace(Regex pattern, std::string with) : pattern_(std::move(pattern)), with_(std::move(with)) {}
  void Decode(Tokens* tokens) const override {
    for (std::string& token : *tokens) {
      if (IsValid(token)) ReplaceAll(pattern_, with_, &token);
    }
  }

 private:
  const Regex pattern_;
  const std::string with_;
};

Parsed ParseReplace(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "pattern", "content"}));
  TREFOIL_ASSIGN_OR_RETURN(Regex pattern, ParsePattern(value.Get("pattern")));
  TREFOIL_ASSIGN_OR_RETURN(std::string with, value.Get("content").Text());
  return std::make_unique<Replace>(std::move(pattern), std::move(with));
}

// Its options are the pre-tokenizer's, and change nothing here.
Parsed ParseByteLevel(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  return std::make_unique<Plain>(BytesOfTokens);
}

template <void (*decode)(Tokens*)>
Parsed ParsePlain(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type"}));
  return std::make_unique<Plain>(decode);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Decoder>> ParseDecoder(const JsonValue& value) {
  if (value.IsNull()) return std::make_unique<Spaces>();
  TREFOIL_ASSIGN_OR_RETURN(const std::string type, value.Get("type").Text());
  static constexpr struct {
    const char* type;
    Parsed (*parse)(const JsonValue& value);
  } kKinds[] = {
      {"Sequence", ParseSequence},   {"ByteLevel", ParseByteLevel},    {"WordPiece", ParseWordPieces},
      {"Metaspace", ParseMetaspace}, {"BPEDecoder", ParseWordEnds},    {"Strip", ParseStrip},
      {"Replace", ParseReplace},     {"Fuse", ParsePlain<FuseTokens>}, {"ByteFallback", ParsePlain<BytesOfFallback>}};
  for (const auto& kind : kKinds) {
    if (type == kind.type) return kind.parse(value);
  }
  return value.Get("type").Refuse("a decoder that is not known here");
}

}  // namespace trefoil
