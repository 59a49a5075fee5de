// What is known of characters, by ICU: as much of it as pipelines of tokenizers ask for.
//
//   AppendNormalized(NormalForm::kNfc, "e\u0301", &out);   // "é"
//   IsMark(0x301);                                         // true
//
// The `tokenizers` package has tables of several versions of Unicode, one in each library that it is built of; ICU's
// answers are cut to the version there, so that ids are the same: 8 for punctuation, controls and nonspacing marks, 9
// for normal forms and marks. For the rest it has Unicode 17 and ICU 72 has 15: characters that are newer than 2022 may
// differ. Text is valid UTF-8.
//
// Threads: any.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace trefoil {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

// Appends `text` in that form.
void AppendNormalized(NormalForm form, std::string_view text, std::string* out);

// The character at the front of `text`, which is not empty, and its bytes.
char32_t FrontCharacter(std::string_view text, size_t* bytes);
char32_t BackCharacter(std::string_view text);
void AppendCharacter(char32_t character, std::string* out);

bool IsSpace(char32_t character);        // White_Space
bool IsPunctuation(char32_t character);  // of ASCII, or of the categories P*
bool IsControl(char32_t character);      // Cc, Cf, Co
bool IsNonspacingMark(char32_t character);  // Mn
bool IsMark(char32_t character);            // M*
bool IsNumber(char32_t character);          // N*
bool IsWordCharacter(char32_t character);   // \w of a regex: letters, marks, digits, connectors
// Lower case, of one character alone: final sigma is not known, and a capital i with a dot is two.
void AppendLowercase(char32_t character, std::string* out);

// The extended grapheme clusters (UAX 29) of a text, one after the other.
class Graphemes {
 public:
  explicit Graphemes(std::string_view text);
  ~Graphemes();
  Graphemes(const Graphemes&) = delete;
  Graphemes& operator=(const Graphemes&) = delete;
  // The next cluster; empty at the end.
  std::string_view Next();

 private:
  struct Iterator;
  std::string_view text_;
  size_t at_ = 0;
  std::unique_ptr<Iterator> iterator_;  // made where text is not ASCII
};

}  // namespace trefoil
