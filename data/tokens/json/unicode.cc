#include "data/tokens/json/unicode.h"

#include <glog/logging.h>
#include <unicode/brkiter.h>
#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/uniset.h>
#include <unicode/utext.h>
#include <unicode/utf8.h>

namespace trefoil {
namespace {

const icu::Normalizer2& NormalizerOf(NormalForm form) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* normalizer = nullptr;
  switch (form) {
    case NormalForm::kNfc: normalizer = icu::Normalizer2::getNFCInstance(error); break;
    case NormalForm::kNfd: normalizer = icu::Normalizer2::getNFDInstance(error); break;
    case NormalForm::kNfkc: normalizer = icu::Normalizer2::getNFKCInstance(error); break;
    case NormalForm::kNfkd: normalizer = icu::Normalizer2::getNFKDInstance(error); break;
  }
  CHECK(U_SUCCESS(error)) << u_errorName(error);
  return *normalizer;
}

// The characters that there were in Unicode 9.
const icu::UnicodeSet& OfUnicode9() {
  static const icu::UnicodeSet* const set = [] {
    UErrorCode error = U_ZERO_ERROR;
    auto* made = new icu::UnicodeSet(u"[:age=9.0:]", error);
    CHECK(U_SUCCESS(error)) << u_errorName(error);
    made->freeze();
    return made;
  }();
  return *set;
}

bool IsOfCategory(char32_t character, uint32_t mask, int version) {
  const auto c = static_cast<UChar32>(character);
  if ((U_GET_GC_MASK(c) & mask) == 0) return false;
  UVersionInfo age;
  u_charAge(c, age);
  return age[0] <= version;
}

bool IsAscii(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  }
  return true;
}

}  // namespace

void AppendNormalized(NormalForm form, std::string_view text, std::string* out) {
  if (IsAscii(text)) {
    out->append(text);
    return;
  }
  UErrorCode error = U_ZERO_ERROR;
  icu::StringByteSink<std::string> sink(out);
  const icu::FilteredNormalizer2 normalizer(NormalizerOf(form), OfUnicode9());
  normalizer.normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink, nullptr,
                                   error);
  CHECK(U_SUCCESS(error)) << u_errorName(error);
}

char32_t FrontCharacter(std::string_view text, size_t* bytes) {
  UChar32 character = 0;
  int32_t at = 0;
  U8_NEXT_UNSAFE(text.data(), at, character);
  *bytes = static_cast<size_t>(at);
  return static_cast<char32_t>(character);
}

char32_t BackCharacter(std::string_view text) {
  UChar32 character = 0;
  auto at = static_cast<int64_t>(text.size());
  U8_PREV_UNSAFE(text.data(), at, character);
  return static_cast<char32_t>(character);
}

void AppendCharacter(char32_t character, std::string* out) {
  char bytes[U8_MAX_LENGTH];
  int32_t length = 0;
  U8_APPEND_UNSAFE(bytes, length, static_cast<UChar32>(character));
  out->append(bytes, static_cast<size_t>(length));
}

bool IsSpace(char32_t character) { return u_isUWhiteSpace(static_cast<UChar32>(character)); }

bool IsPunctuation(char32_t character) {
  if (character < 0x80) return character > 0x20 && character != 0x7f && !u_isalnum(static_cast<UChar32>(character));
  if (character == 0x166d || character == 0x111c9) return true;  // in Unicode 8
  return IsOfCategory(character, U_GC_P_MASK, 8);
}

bool IsControl(char32_t character) {
  return IsOfCategory(character, U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK, 8);
}

bool IsNonspacingMark(char32_t character) {
  if (character == 0x1734) return true;  // in Unicode 8, and the next are not
  if (character == 0x1885 || character == 0x1886 || character == 0xa9bd || character == 0x111c9) return false;
  return IsOfCategory(character, U_GC_MN_MASK, 8);
}

bool IsMark(char32_t character) {
  if (character == 0x1cf2 || character == 0x1cf3) return true;  // in Unicode 9
  return character != 0x111c9 && IsOfCategory(character, U_GC_M_MASK, 9);
}

bool IsNumber(char32_t character) { return (U_GET_GC_MASK(static_cast<UChar32>(character)) & U_GC_N_MASK) != 0; }

bool IsWordCharacter(char32_t character) {
  const auto c = static_cast<UChar32>(character);
  return (U_GET_GC_MASK(c) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0 || u_isUAlphabetic(c) ||
         u_hasBinaryProperty(c, UCHAR_JOIN_CONTROL);
}

void AppendLowercase(char32_t character, std::string* out) {
  if (character == 0x130) {
    out->append("i\xcc\x87");
    return;
  }
  AppendCharacter(static_cast<char32_t>(u_tolower(static_cast<UChar32>(character))), out);
}

struct Graphemes::Iterator {
  std::unique_ptr<icu::BreakIterator> breaks;
  UText* text = nullptr;
  ~Iterator() { utext_close(text); }
};

Graphemes::Graphemes(std::string_view text) : text_(text) {}
Graphemes::~Graphemes() = default;

std::string_view Graphemes::Next() {
  const size_t begin = at_;
  if (begin == text_.size()) return {};
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text_[i]); };
  const bool alone = begin + 1 == text_.size() || (byte(begin + 1) < 0x80 && text_[begin] != '\r');
  if (byte(begin) < 0x80 && alone) return text_.substr(at_++, 1);
  UErrorCode error = U_ZERO_ERROR;
  if (iterator_ == nullptr) {
    iterator_ = std::make_unique<Iterator>();
    iterator_->breaks.reset(icu::BreakIterator::createCharacterInstance(icu::Locale::getRoot(), error));
    CHECK(U_SUCCESS(error)) << u_errorName(error);
    iterator_->text = utext_openUTF8(nullptr, text_.data(), static_cast<int64_t>(text_.size()), &error);
    iterator_->breaks->setText(iterator_->text, error);
    CHECK(U_SUCCESS(error)) << u_errorName(error);
  }
  at_ = static_cast<size_t>(iterator_->breaks->following(static_cast<int32_t>(begin)));
  return text_.substr(begin, at_ - begin);
}

}  // namespace trefoil
