#include "data/chat/template_tokens.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <utility>

namespace trefoil::chat {
namespace {

bool IsSpace(char c) { return absl::ascii_isspace(static_cast<unsigned char>(c)); }
bool BeginsName(char c) { return absl::ascii_isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool InName(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_'; }
bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {
    // Jinja leaves out one newline at the end.
    if (source_.ends_with('\n')) source_.remove_suffix(1);
    if (source_.ends_with('\r')) source_.remove_suffix(1);
  }

  absl::StatusOr<std::vector<Token>> Run() {
    while (at_ < source_.size()) TREFOIL_RETURN_IF_ERROR(TextAndBlock());
    tokens_.push_back({TokenKind::kEnd, "", line_});
    return std::move(tokens_);
  }

 private:
  absl::Status Wrong(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat("line ", line_, ": ", what));
  }

  // Text up to the next tag, and what the tag holds.
  absl::Status TextAndBlock() {
    size_t open = at_;
    for (;; ++open) {
      open = source_.find('{', open);
      if (open == std::string_view::npos || open + 1 >= source_.size()) {
        AddText(source_.substr(at_));
        at_ = source_.size();
        return absl::OkStatus();
      }
      if (const char next = source_[open + 1]; next == '{' || next == '%' || next == '#') break;
    }
    std::string_view text = source_.substr(at_, open - at_);
    const char kind = source_[open + 1];
    const char sign = open + 2 < source_.size() ? source_[open + 2] : ' ';
    if (sign == '-') {
      while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
    } else if (sign != '+' && kind != '{') {
      // The blanks of a line that begins with the block.
      size_t blank = text.size();
      while (blank > 0 && (text[blank - 1] == ' ' || text[blank - 1] == '\t')) --blank;
      const bool begins_line = blank > 0 ? text[blank - 1] == '\n' : at_ == 0 || source_[at_ - 1] == '\n';
      if (begins_line) text = text.substr(0, blank);
    }
    AddText(text);
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<ptrdiff_t>(at_ + text.size()),
                                         source_.begin() + static_cast<ptrdiff_t>(open), '\n'));
    at_ = open + 2;
    if (kind == '#') return Comment();
    if (sign == '-' || (sign == '+' && kind == '%')) ++at_;
    const bool output = kind == '{';
    tokens_.push_back({output ? TokenKind::kBeginOutput : TokenKind::kBeginBlock, "", line_});
    TREFOIL_RETURN_IF_ERROR(Inside(output ? "}}" : "%}"));
    tokens_.push_back({output ? TokenKind::kEndOutput : TokenKind::kEndBlock, "", line_});
    return absl::OkStatus();
  }

  void AddText(std::string_view text) {
    if (text.empty()) return;
    tokens_.push_back({TokenKind::kText, std::string(text), line_});
    line_ += static_cast<int>(std::count(text.begin(), text.end(), '\n'));
  }

  // Behind the end of a tag.
  void AfterTag(bool strips, bool keeps, bool output) {
    if (strips) {
      while (at_ < source_.size() && IsSpace(source_[at_])) line_ += source_[at_++] == '\n' ? 1 : 0;
    } else if (!output && !keeps) {
      if (source_.substr(at_).starts_with("\r\n")) ++at_;
      if (at_ < source_.size() && source_[at_] == '\n') ++at_, ++line_;
    }
  }

  absl::Status Comment() {
    const size_t end = source_.find("#}", at_);
    if (end == std::string_view::npos) return Wrong("a comment {# that does not end");
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<ptrdiff_t>(at_),
                                         source_.begin() + static_cast<ptrdiff_t>(end), '\n'));
    const char sign = end > at_ ? source_[end - 1] : ' ';
    at_ = end + 2;
    AfterTag(sign == '-', sign == '+', /*output=*/false);
    return absl::OkStatus();
  }

  absl::Status Inside(std::string_view close) {
    int depth = 0;  // of brackets: }} may close two dicts
    while (at_ < source_.size()) {
      const char c = source_[at_];
      if (IsSpace(c)) {
        line_ += c == '\n' ? 1 : 0;
        ++at_;
        continue;
      }
      const std::string_view rest = source_.substr(at_);
      const bool signed_end = (c == '-' || c == '+') && rest.substr(1).starts_with(close) && (c == '-' || close == "%}");
      if (depth == 0 && (rest.starts_with(close) || signed_end)) {
        at_ += close.size() + (signed_end ? 1 : 0);
        AfterTag(signed_end && c == '-', signed_end && c == '+', close == "}}");
        return absl::OkStatus();
      }
      if (c == '(' || c == '[' || c == '{') ++depth;
      if (c == ')' || c == ']' || c == '}') --depth;
      TREFOIL_RETURN_IF_ERROR(One());
    }
    return Wrong(absl::StrCat("a tag without its ", std::string(close)));
  }

  absl::Status One() {
    const char c = source_[at_];
    const size_t begin = at_;
    if (c == '"' || c == '\'') return String(c);
    if (BeginsName(c)) {
      while (at_ < source_.size() && InName(source_[at_])) ++at_;
      Add(TokenKind::kName, begin);
      return absl::OkStatus();
    }
    if (IsDigit(c)) {
      while (at_ < source_.size() && IsDigit(source_[at_])) ++at_;
      const bool real = at_ + 1 < source_.size() && source_[at_] == '.' && IsDigit(source_[at_ + 1]);
      if (real) {
        ++at_;
        while (at_ < source_.size() && IsDigit(source_[at_])) ++at_;
      }
      Add(real ? TokenKind::kFloat : TokenKind::kInteger, begin);
      return absl::OkStatus();
    }
    for (const std::string_view sign : {"==", "!=", "<=", ">=", "//", "**"}) {
      if (!source_.substr(at_).starts_with(sign)) continue;
      at_ += 2;
      Add(TokenKind::kOperator, begin);
      return absl::OkStatus();
    }
    if (std::string_view("+-*/%~<>=()[]{}.,:|").find(c) == std::string_view::npos) {
      return Wrong(absl::StrCat("a sign '", std::string(1, c), "' that is not Jinja's"));
    }
    ++at_;
    Add(TokenKind::kOperator, begin);
    return absl::OkStatus();
  }

  void Add(TokenKind kind, size_t begin) {
    tokens_.push_back({kind, std::string(source_.substr(begin, at_ - begin)), line_});
  }

  // Escapes are those of Python that templates have; any other stays as it is.
  absl::Status String(char quote) {
    std::string value;
    for (++at_; at_ < source_.size() && source_[at_] != quote; ++at_) {
      char c = source_[at_];
      line_ += c == '\n' ? 1 : 0;
      if (c == '\\' && at_ + 1 < source_.size()) {
        const char next = source_[++at_];
        constexpr std::string_view kFrom = "nrtbfav0\\'\"", kTo = {"\n\r\t\b\f\a\v\0\\'\"", 11};
        const size_t known = kFrom.find(next);
        if (next == 'x' || next == 'u' || next == 'U' || next == 'N') {
          return Wrong(absl::StrCat("an escape \\", std::string(1, next), ", which is not in the subset"));
        }
        if (known == std::string_view::npos) value += '\\';
        c = known == std::string_view::npos ? next : kTo[known];
      }
      value += c;
    }
    if (at_ >= source_.size()) return Wrong("a text without its end");
    ++at_;
    tokens_.push_back({TokenKind::kString, std::move(value), line_});
    return absl::OkStatus();
  }

  std::string_view source_;
  size_t at_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

absl::StatusOr<std::vector<Token>> TokensOfTemplate(std::string_view source) { return Lexer(source).Run(); }

}  // namespace trefoil::chat
