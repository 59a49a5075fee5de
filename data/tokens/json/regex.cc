#include "data/tokens/json/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <absl/strings/str_cat.h>
#include <glog/logging.h>
#include <pcre2.h>

#include <cctype>
#include <utility>

#include "data/tokens/json/newer_characters.h"

namespace trefoil {
namespace {

constexpr size_t kLongestPattern = 65536;
constexpr size_t kStackBytes = size_t{256} << 20;  // reserved, and touched as far as a match needs it
constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;

std::string WordCharacters() {
  return absl::StrCat(R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})", NewerCharacters("L"),
                      NewerCharacters("M"), NewerCharacters("Nd"));
}

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

// A compiled pattern, or null with the message.
pcre2_code* CompilePcre(const std::string& pattern, std::string* message) {
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int error = 0;
  size_t at = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), kOptions, &error, &at, context);
  pcre2_compile_context_free(context);
  if (code == nullptr && message != nullptr) {
    unsigned char text[256];
    pcre2_get_error_message(error, text, sizeof(text));
    *message = absl::StrCat(reinterpret_cast<const char*>(text), " near character ", at);
  }
  return code;
}

bool Compiles(const std::string& pattern) {
  pcre2_code* code = CompilePcre(pattern, nullptr);
  pcre2_code_free(code);
  return code != nullptr;
}

// From Ruby's dialect to PCRE2's.
class Translation {
 public:
  explicit Translation(std::string_view pattern) : rest_(pattern) {}

  absl::StatusOr<std::string> Run() {
    while (!rest_.empty()) {
      absl::Status status = in_class_ ? InClass() : Outside();
      if (!status.ok()) return status;
    }
    return std::move(out_);
  }

 private:
  absl::Status Refuse(size_t bytes) const {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", View(rest_.substr(0, bytes)), "\" may mean something else here than to its author"));
  }

  void Pass(size_t bytes) {
    out_ += rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
  }

  absl::Status Outside() {
    const char c = rest_[0];
    const std::string_view after = rest_.substr(1);
    if (c == '\\') return Escape();
    if (c == '[') {
      in_class_ = true;
      Pass(after.starts_with("^") ? 2 : 1);
      if (rest_.starts_with("]")) return Refuse(1);
      return absl::OkStatus();
    }
    if (c == '(' && after.starts_with("*")) return Refuse(2);
    if (c == '(' && after.starts_with("?")) {
      for (const char* known : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:", "(?i)"}) {
        if (!rest_.starts_with(known)) continue;
        Pass(std::string_view(known).size());
        return absl::OkStatus();
      }
      return Refuse(3);
    }
    if (c == '{') {
      const size_t close = rest_.find('}');
      if (close == std::string_view::npos) return Refuse(1);
      for (const char digit : rest_.substr(1, close - 1)) {
        if (!std::isdigit(static_cast<unsigned char>(digit)) && digit != ',') return Refuse(close + 1);
      }
      if (rest_[1] == ',' || close == 1 || rest_.substr(close + 1).starts_with("+")) return Refuse(close + 2);
    }
    Pass(1);
    return absl::OkStatus();
  }

  absl::Status InClass() {
    const char c = rest_[0];
    if (c == '\\') return Escape();
    if (c == '[' || rest_.starts_with("&&")) return Refuse(2);
    if (c == ']') in_class_ = false;
    Pass(1);
    return absl::OkStatus();
  }

  absl::Status Escape() {
    if (rest_.size() < 2) return Refuse(1);
    const char c = rest_[1];
    const auto put = [&](std::string_view set) {
      if (!in_class_) out_ += '[';
      out_ += set;
      if (!in_class_) out_ += ']';
      rest_.remove_prefix(2);
      return absl::OkStatus();
    };
    switch (c) {
      case 's': return put("\\p{White_Space}");
      case 'S': return put("\\P{White_Space}");
      case 'w': return put(WordCharacters());
      case 'W':
        if (in_class_) return Refuse(2);
        return put(absl::StrCat("^", WordCharacters()));
      case 'p':
      case 'P': return Property();
      case 'u': {
        if (rest_.size() < 6) return Refuse(rest_.size());
        for (const char digit : rest_.substr(2, 4)) {
          if (!std::isxdigit(static_cast<unsigned char>(digit))) return Refuse(6);
        }
        absl::StrAppend(&out_, "\\x{", View(rest_.substr(2, 4)), "}");
        rest_.remove_prefix(6);
        return absl::OkStatus();
      }
      default:
        if (std::isalnum(static_cast<unsigned char>(c)) &&
            std::string_view("dDnrtfvax").find(c) == std::string_view::npos && !(c == 'b' && !in_class_)) {
          return Refuse(2);
        }
        Pass(2);
        return absl::OkStatus();
    }
  }

  // \p{Han}: scripts are by themselves, without what they share with others.
  absl::Status Property() {
    const size_t close = rest_.find('}');
    if (rest_.size() < 4 || rest_[2] != '{' || close == std::string_view::npos) return Refuse(3);
    const std::string_view name = rest_.substr(3, close - 3);
    const std::string newer = name.empty() || name.size() > 2 ? "" : NewerCharacters(name);
    if (!newer.empty() && (rest_[1] == 'p' || !in_class_)) {
      const bool negated = rest_[1] == 'P';
      absl::StrAppend(&out_,
                      in_class_ ? ""
                      : negated ? "[^"
                                : "[",
                      "\\p{", View(name), "}", newer, in_class_ ? "" : "]");
      rest_.remove_prefix(close + 1);
      return absl::OkStatus();
    }
    const std::string script = absl::StrCat(View(rest_.substr(0, 2)), "{", name.starts_with("^") ? "^" : "", "sc:",
                                            View(name.substr(name.starts_with("^") ? 1 : 0)), "}");
    if (name.size() > 2 && Compiles(script)) {
      out_ += script;
      rest_.remove_prefix(close + 1);
    } else {
      Pass(close + 1);
    }
    return absl::OkStatus();
  }

  std::string_view rest_;
  std::string out_;
  bool in_class_ = false;
};

}  // namespace

struct Regex::Compiled {
  ~Compiled() {
    pcre2_match_data_free(data);
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_code_free(code);
  }
  std::string pattern;
  pcre2_code* code = nullptr;
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;
  bool jit = false;
};

Regex::Regex(std::unique_ptr<Compiled> compiled) : compiled_(std::move(compiled)) {}
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

absl::StatusOr<Regex> Regex::Compile(std::string_view pattern) {
  const auto fail = [&](std::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("not a regular expression that is known here: ", View(why)));
  };
  if (pattern.empty() || pattern.size() > kLongestPattern) {
    return fail(absl::StrCat(pattern.size(), " bytes; must be 1 to ", kLongestPattern));
  }
  const absl::StatusOr<std::string> translated = Translation(pattern).Run();
  if (!translated.ok()) return fail(std::string(translated.status().message()));
  auto compiled = std::make_unique<Compiled>();
  compiled->pattern = std::string(pattern);
  std::string message;
  compiled->code = CompilePcre(*translated, &message);
  if (compiled->code == nullptr) return fail(message);
  compiled->jit = pcre2_jit_compile(compiled->code, PCRE2_JIT_COMPLETE) == 0;
  compiled->data = pcre2_match_data_create_from_pattern(compiled->code, nullptr);
  compiled->context = pcre2_match_context_create(nullptr);
  compiled->stack = pcre2_jit_stack_create(32 << 10, kStackBytes, nullptr);
  pcre2_jit_stack_assign(compiled->context, nullptr, compiled->stack);
  pcre2_set_match_limit(compiled->context, UINT32_MAX);
  pcre2_set_depth_limit(compiled->context, UINT32_MAX);
  pcre2_set_heap_limit(compiled->context, kStackBytes >> 10);
  return Regex(std::move(compiled));
}

Regex Regex::Literal(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x80 && std::ispunct(static_cast<unsigned char>(c))) pattern += '\\';
    pattern += c;
  }
  absl::StatusOr<Regex> regex = Compile(pattern);
  CHECK(regex.ok()) << regex.status();
  return *std::move(regex);
}

bool Regex::Find(std::string_view text, size_t at, Match* match) const {
  if (at > text.size()) return false;
  Compiled& c = *compiled_;
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const int count = c.jit ? pcre2_jit_match(c.code, subject, text.size(), at, 0, c.data, c.context)
                          : pcre2_match(c.code, subject, text.size(), at, PCRE2_NO_UTF_CHECK, c.data, c.context);
  if (count == PCRE2_ERROR_NOMATCH) return false;
  CHECK_GT(count, 0) << "a tokenizer's regular expression needs too much memory on this text: " << c.pattern;
  const size_t* ends = pcre2_get_ovector_pointer(c.data);
  *match = {.begin = ends[0], .end = ends[1]};
  return true;
}

}  // namespace trefoil
