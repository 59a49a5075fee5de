#include "data/tokens/json/normalizer.h"

#include <absl/strings/escaping.h>

#include <optional>
#include <utility>
#include <vector>

#include "data/tokens/json/byte_alphabet.h"
#include "data/tokens/json/charsmap.h"
#include "data/tokens/json/pattern.h"
#include "data/tokens/json/unicode.h"

namespace trefoil {
namespace {

using Parsed = absl::StatusOr<std::unique_ptr<Normalizer>>;

// Calls put(character, &out) for each character of `text`, which becomes what that made of it.
template <typename Put>
void MapCharacters(const Put& put, std::string* text) {
  std::string out;
  out.reserve(text->size());
  std::string_view rest = *text;
  while (!rest.empty()) {
    size_t bytes = 0;
    put(FrontCharacter(rest, &bytes), &out);
    rest.remove_prefix(bytes);
  }
  *text = std::move(out);
}

void Lower(std::string* text) { MapCharacters(AppendLowercase, text); }

template <typename Drop>
void Filter(const Drop& drop, std::string* text) {
  MapCharacters(
      [&](char32_t character, std::string* out) {
        if (!drop(character)) AppendCharacter(character, out);
      },
      text);
}

void Form(NormalForm form, std::string* text) {
  std::string out;
  out.reserve(text->size());
  AppendNormalized(form, *text, &out);
  *text = std::move(out);
}

// One that needs no options.
class Plain : public Normalizer {
 public:
  explicit Plain(void (*change)(std::string*)) : change_(change) {}
  void Normalize(bool, std::string* text) const override { change_(text); }

 private:
  void (*const change_)(std::string*);
};

class Sequence : public Normalizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<Normalizer>> parts) : parts_(std::move(parts)) {}
  void Normalize(bool continues, std::string* text) const override {
    for (const auto& part : parts_) part->Normalize(continues, text);
  }

 private:
  const std::vector<std::unique_ptr<Normalizer>> parts_;
};

Parsed ParseSequence(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "normalizers"}));
  TREFOIL_ASSIGN_OR_RETURN(const auto items, value.Get("normalizers").Items());
  std::vector<std::unique_ptr<Normalizer>> parts;
  for (const JsonValue& item : items) {
    if (item.IsNull()) return item.Refuse("must be an object");
    TREFOIL_ASSIGN_OR_RETURN(parts.emplace_back(), ParseNormalizer(item));
  }
  return std::make_unique<Sequence>(std::move(parts));
}

class Bert : public Normalizer {
 public:
  Bert(bool clean, bool spaced, bool strip, bool lower)
      : clean_(clean), spaced_(spaced), strip_(strip), lower_(lower) {}

  void Normalize(bool, std::string* text) const override {
    if (clean_) MapCharacters(Clean, text);
    if (spaced_) MapCharacters(Space, text);
    if (strip_) {
      Form(NormalForm::kNfd, text);
      Filter(IsNonspacingMark, text);
    }
    if (lower_) Lower(text);
  }

 private:
  static void Clean(char32_t character, std::string* out) {
    if (character == '\t' || character == '\n' || character == '\r') {
      out->push_back(' ');
    } else if (character != 0 && character != 0xfffd && !IsControl(character)) {
      AppendCharacter(IsSpace(character) ? U' ' : character, out);
    }
  }

  static void Space(char32_t character, std::string* out) {
    static constexpr char32_t kIdeographs[][2] = {{0x4e00, 0x9fff},   {0x3400, 0x4dbf},   {0x20000, 0x2a6df},
                                                  {0x2a700, 0x2b73f}, {0x2b740, 0x2b81f}, {0x2b920, 0x2ceaf},
                                                  {0xf900, 0xfaff},   {0x2f800, 0x2fa1f}};
    bool ideograph = false;
    for (const auto& [first, last] : kIdeographs) ideograph = ideograph || (character >= first && character <= last);
    if (ideograph) out->push_back(' ');
    AppendCharacter(character, out);
    if (ideograph) out->push_back(' ');
  }

  const bool clean_, spaced_, strip_, lower_;
};

Parsed ParseBert(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "clean_text", "handle_chinese_chars", "strip_accents", "lowercase"}));
  TREFOIL_ASSIGN_OR_RETURN(const bool clean, value.Get("clean_text").Bool(true));
  TREFOIL_ASSIGN_OR_RETURN(const bool spaced, value.Get("handle_chinese_chars").Bool(true));
  TREFOIL_ASSIGN_OR_RETURN(const bool lower, value.Get("lowercase").Bool(true));
  TREFOIL_ASSIGN_OR_RETURN(const bool strip, value.Get("strip_accents").Bool(lower));
  return std::make_unique<Bert>(clean, spaced, strip, lower);
}

class Strip : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void Normalize(bool, std::string* text) const override {
    std::string_view rest = *text;
    size_t bytes = 0;
    while (left_ && !rest.empty() && IsSpace(FrontCharacter(rest, &bytes))) rest.remove_prefix(bytes);
    while (right_ && !rest.empty() && IsSpace(BackCharacter(rest))) {
      do rest.remove_suffix(1);
      while (!rest.empty() && (rest.data()[rest.size()] & 0xc0) == 0x80);
    }
    *text = std::string(rest);
  }

 private:
  const bool left_, right_;
};

Parsed ParseStrip(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "strip_left", "strip_right"}));
  TREFOIL_ASSIGN_OR_RETURN(const bool left, value.Get("strip_left").Bool());
  TREFOIL_ASSIGN_OR_RETURN(const bool right, value.Get("strip_right").Bool());
  return std::make_unique<Strip>(left, right);
}

class Replace : public Normalizer {
 public:
  Replace(Regex pattern, std::string with) : pattern_(std::move(pattern)), with_(std::move(with)) {}
  void Normalize(bool, std::string* text) const override { ReplaceAll(pattern_, with_, text); }

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

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  void Normalize(bool continues, std::string* text) const override {
    if (!continues && !text->empty()) text->insert(0, prefix_);
  }

 private:
  const std::string prefix_;
};

Parsed ParsePrepend(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "prepend"}));
  TREFOIL_ASSIGN_OR_RETURN(std::string prefix, value.Get("prepend").Text());
  return std::make_unique<Prepend>(std::move(prefix));
}

class Precompiled : public Normalizer {
 public:
  explicit Precompiled(Charsmap map) : map_(std::move(map)) {}
  void Normalize(bool, std::string* text) const override { map_.Apply(text); }

 private:
  const Charsmap map_;
};

Parsed ParsePrecompiled(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "precompiled_charsmap"}));
  const JsonValue field = value.Get("precompiled_charsmap");
  TREFOIL_ASSIGN_OR_RETURN(const std::string text, field.Text());
  std::string bytes;
  if (!absl::Base64Unescape(text, &bytes)) return field.Refuse("must be Base64");
  absl::StatusOr<Charsmap> map = Charsmap::Parse(bytes);
  if (!map.ok()) return field.Refuse(std::string(map.status().message()));
  return std::make_unique<Precompiled>(*std::move(map));
}

void NmtClean(std::string* text) {
  MapCharacters(
      [](char32_t c, std::string* out) {
        const bool dropped =
            (c >= 0x1 && c <= 0x8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || c == 0x8f || c == 0x9f;
        if (dropped) return;
        const bool space = c == 0x9 || c == 0xa || c == 0xc || c == 0xd || c == 0x1680 ||
                           (c >= 0x200b && c <= 0x200f) || c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xfeff ||
                           c == 0xfffd;
        AppendCharacter(space ? U' ' : c, out);
      },
      text);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Normalizer>> ParseNormalizer(const JsonValue& value) {
  if (value.IsNull()) return nullptr;
  TREFOIL_ASSIGN_OR_RETURN(const std::string type, value.Get("type").Text());
  static constexpr struct {
    const char* type;
    Parsed (*parse)(const JsonValue& value);
  } kKinds[] = {{"Sequence", ParseSequence}, {"BertNormalizer", ParseBert}, {"Strip", ParseStrip},
                {"Replace", ParseReplace},   {"Prepend", ParsePrepend},     {"Precompiled", ParsePrecompiled}};
  for (const auto& kind : kKinds) {
    if (type == kind.type) return kind.parse(value);
  }
  static constexpr struct {
    const char* type;
    void (*change)(std::string* text);
  } kPlain[] = {{"NFC", [](std::string* text) { Form(NormalForm::kNfc, text); }},
                {"NFD", [](std::string* text) { Form(NormalForm::kNfd, text); }},
                {"NFKC", [](std::string* text) { Form(NormalForm::kNfkc, text); }},
                {"NFKD", [](std::string* text) { Form(NormalForm::kNfkd, text); }},
                {"Lowercase", Lower},
                {"StripAccents", [](std::string* text) { Filter(IsMark, text); }},
                {"Nmt", NmtClean},
                {"ByteLevel", [](std::string* text) { AppendByteCharacters(std::exchange(*text, {}), text); }}};
  for (const auto& kind : kPlain) {
    if (type != kind.type) continue;
    TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type"}));
    return std::make_unique<Plain>(kind.change);
  }
  return value.Get("type").Refuse("a normalizer that is not known here");
}

}  // namespace trefoil
