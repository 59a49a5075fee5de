#include "data/tokens/json/pre_tokenizer.h"

#include <absl/strings/str_cat.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/tokens/json/byte_alphabet.h"
#include "data/tokens/json/pattern.h"
#include "data/tokens/json/prepend_scheme.h"
#include "data/tokens/json/unicode.h"

namespace trefoil {
namespace {

using Parsed = absl::StatusOr<std::unique_ptr<PreTokenizer>>;
using Give = absl::FunctionRef<void(const TextPiece&)>;

constexpr char kGpt2Pattern[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// What becomes of the places that a pattern finds.
enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

absl::StatusOr<Behavior> ParseBehavior(const JsonValue& value) {
  TREFOIL_ASSIGN_OR_RETURN(const std::string name, value.Text());
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  return value.Refuse("must be Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

// Takes the parts of a piece, found or not, one by one, and gives the pieces that the behavior makes of them.
class Splitter {
 public:
  Splitter(const TextPiece& piece, Behavior behavior, Give give) : piece_(piece), behavior_(behavior), give_(give) {}
  ~Splitter() { Flush(); }

  void Add(size_t begin, size_t end, bool found) {
    switch (behavior_) {
      case Behavior::kRemoved:
        if (!found) GiveSpan(begin, end);
        return;
      case Behavior::kIsolated:
        GiveSpan(begin, end);
        return;
      case Behavior::kMergedWithPrevious: {  // one found after another stands alone
        const bool joins = found && !last_found_ && open_;
        last_found_ = found;
        if (joins) return Extend(end);
        break;
      }
      case Behavior::kMergedWithNext: {  // of several in a row the last joins what follows
        const bool joins = !found && last_found_ && open_;
        last_found_ = found;
        if (joins) return Extend(end);
        break;
      }
      case Behavior::kContiguous: {
        const bool joins = open_ && found == last_found_;
        last_found_ = found;
        if (joins) return Extend(end);
        break;
      }
    }
    Flush();
    begin_ = begin;
    end_ = end;
    open_ = true;
  }

 private:
  void Extend(size_t end) { end_ = end; }
  void Flush() {
    if (std::exchange(open_, false)) GiveSpan(begin_, end_);
  }
  void GiveSpan(size_t begin, size_t end) {
    give_({.text = piece_.text.substr(begin, end - begin),
           .begins_text = piece_.begins_text && begin == 0,
           .continues = piece_.continues && begin == 0});
  }

  const TextPiece& piece_;
  const Behavior behavior_;
  const Give give_;
  size_t begin_ = 0, end_ = 0;
  bool open_ = false, last_found_ = false;
};

class Split : public PreTokenizer {
 public:
  Split(Regex pattern, Behavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  void Cut(const TextPiece& piece, Give give) const override {
    Splitter splitter(piece, behavior_, give);
    ForEachPart(pattern_, piece.text,
                [&](size_t begin, size_t end, bool found) { splitter.Add(begin, end, found != invert_); });
  }
  bool keeps_all() const override { return behavior_ != Behavior::kRemoved; }

 private:
  const Regex pattern_;
  const Behavior behavior_;
  const bool invert_;
};

Parsed ParseSplit(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "pattern", "behavior", "invert"}));
  TREFOIL_ASSIGN_OR_RETURN(Regex pattern, ParsePattern(value.Get("pattern")));
  TREFOIL_ASSIGN_OR_RETURN(const Behavior behavior, ParseBehavior(value.Get("behavior")));
  TREFOIL_ASSIGN_OR_RETURN(const bool invert, value.Get("invert").Bool(false));
  return std::make_unique<Split>(std::move(pattern), behavior, invert);
}

// Cut at characters of a kind.
class SplitAt : public PreTokenizer {
 public:
  SplitAt(bool (*found)(char32_t), Behavior behavior) : found_(found), behavior_(behavior) {}
  void Cut(const TextPiece& piece, Give give) const override {
    Splitter splitter(piece, behavior_, give);
    size_t begin = 0, at = 0;
    for (size_t bytes = 0; at < piece.text.size(); at += bytes) {
      if (!found_(FrontCharacter(piece.text.substr(at), &bytes))) continue;
      if (begin < at) splitter.Add(begin, at, false);
      splitter.Add(at, at + bytes, true);
      begin = at + bytes;
    }
    if (begin < at) splitter.Add(begin, at, false);
  }
  bool keeps_all() const override { return behavior_ != Behavior::kRemoved; }

 private:
  bool (*const found_)(char32_t);
  const Behavior behavior_;
};

Parsed ParseDigits(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "individual_digits"}));
  TREFOIL_ASSIGN_OR_RETURN(const bool each, value.Get("individual_digits").Bool(false));
  return std::make_unique<SplitAt>(IsNumber, each ? Behavior::kIsolated : Behavior::kContiguous);
}

Parsed ParsePunctuation(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "behavior"}));
  Behavior behavior = Behavior::kIsolated;
  if (!value.Get("behavior").IsNull()) {
    TREFOIL_ASSIGN_OR_RETURN(behavior, ParseBehavior(value.Get("behavior")));
  }
  return std::make_unique<SplitAt>(IsPunctuation, behavior);
}

Parsed ParseWhitespaceSplit(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type"}));
  return std::make_unique<SplitAt>(IsSpace, Behavior::kRemoved);
}

Parsed ParseWhitespace(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type"}));
  static constexpr char kWord[] = R"(\p{L}\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control})";
  TREFOIL_ASSIGN_OR_RETURN(Regex words, Regex::Compile(absl::StrCat("[", kWord, "]+|[^", kWord, "\\s]+")));
  return std::make_unique<Split>(std::move(words), Behavior::kRemoved, /*invert=*/true);
}

Parsed ParseDelimiter(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "delimiter"}));
  TREFOIL_ASSIGN_OR_RETURN(const std::string delimiter, value.Get("delimiter").Character());
  return std::make_unique<Split>(Regex::Literal(delimiter), Behavior::kRemoved, /*invert=*/false);
}

class Sequence : public PreTokenizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<PreTokenizer>> parts) : parts_(std::move(parts)) {}
  void Cut(const TextPiece& piece, Give give) const override { CutFrom(0, piece, give); }
  bool of_bytes() const override {
    for (const auto& part : parts_) {
      if (part->of_bytes()) return true;
    }
    return false;
  }
  bool keeps_all() const override {
    for (const auto& part : parts_) {
      if (!part->keeps_all()) return false;
    }
    return true;
  }

 private:
  void CutFrom(size_t part, const TextPiece& piece, Give give) const {
    if (part == parts_.size()) return give(piece);
    parts_[part]->Cut(piece, [&](const TextPiece& next) { CutFrom(part + 1, next, give); });
  }

  const std::vector<std::unique_ptr<PreTokenizer>> parts_;
};

Parsed ParseSequence(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "pretokenizers"}));
  TREFOIL_ASSIGN_OR_RETURN(const auto items, value.Get("pretokenizers").Items());
  std::vector<std::unique_ptr<PreTokenizer>> parts;
  for (const JsonValue& item : items) {
    if (item.IsNull()) return item.Refuse("must be an object");
    TREFOIL_ASSIGN_OR_RETURN(parts.emplace_back(), ParsePreTokenizer(item));
  }
  return std::make_unique<Sequence>(std::move(parts));
}

Parsed ParseBert(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type"}));
  std::vector<std::unique_ptr<PreTokenizer>> parts;
  parts.push_back(std::make_unique<SplitAt>(IsSpace, Behavior::kRemoved));
  parts.push_back(std::make_unique<SplitAt>(IsPunctuation, Behavior::kIsolated));
  return std::make_unique<Sequence>(std::move(parts));
}

class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(std::optional<Regex> pattern, bool prefix) : pattern_(std::move(pattern)), prefix_(prefix) {}

  void Cut(const TextPiece& piece, Give give) const override {
    if (prefix_ && !piece.continues && !piece.text.starts_with(' ')) {
      const std::string text = absl::StrCat(" ", absl::string_view(piece.text.data(), piece.text.size()));
      return CutWhole({.text = text, .begins_text = piece.begins_text, .continues = piece.continues}, give);
    }
    CutWhole(piece, give);
  }
  bool of_bytes() const override { return true; }
  bool keeps_all() const override { return !prefix_; }

 private:
  void CutWhole(const TextPiece& piece, Give give) const {
    std::string characters;
    const auto give_bytes = [&](const TextPiece& part) {
      characters.clear();
      AppendByteCharacters(part.text, &characters);
      give({.text = characters, .begins_text = part.begins_text, .continues = part.continues});
    };
    if (!pattern_) return give_bytes(piece);
    Splitter splitter(piece, Behavior::kIsolated, give_bytes);
    ForEachPart(*pattern_, piece.text, [&](size_t begin, size_t end, bool found) { splitter.Add(begin, end, found); });
  }

  const std::optional<Regex> pattern_;
  const bool prefix_;
};

Parsed ParseByteLevel(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(value.HasOnly({"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  TREFOIL_ASSIGN_OR_RETURN(const bool prefix, value.Get("add_prefix_space").Bool());
  TREFOIL_ASSIGN_OR_RETURN(const bool cut, value.Get("use_regex").Bool(true));
  std::optional<Regex> pattern;
  if (cut) {
    TREFOIL_ASSIGN_OR_RETURN(pattern, Regex::Compile(kGpt2Pattern));
  }
  return std::make_unique<ByteLevel>(std::move(pattern), prefix);
}

class Metaspace : public PreTokenizer {
 public:
  Metaspace(std::string replacement, PrependScheme scheme, bool split)
      : replacement_(std::move(replacement)),
        pattern_(Regex::Literal(replacement_)),
        space_(Regex::Literal(" ")),
        scheme_(scheme),
        split_(split) {}

  void Cut(const TextPiece& piece, Give give) const override {
    std::string text(piece.text);
    ReplaceAll(space_, replacement_, &text);
    const bool wanted = scheme_ == PrependScheme::kAlways || (scheme_ == PrependScheme::kFirst && piece.begins_text);
    if (wanted && !piece.continues && !text.starts_with(replacement_)) text.insert(0, replacement_);
    const TextPiece whole = {.text = text, .begins_text = piece.begins_text, .continues = piece.continues};
    if (!split_) return give(whole);
    Splitter splitter(whole, Behavior::kMergedWithNext, give);
    ForEachPart(pattern_, text, [&](size_t begin, size_t end, bool found) { splitter.Add(begin, end, found); });
  }
  bool keeps_all() const override { return false; }

 private:
  const std::string replacement_;
  const Regex pattern_, space_;
  const PrependScheme scheme_;
  const bool split_;
};

Parsed ParseMetaspace(const JsonValue& value) {
  TREFOIL_RETURN_IF_ERROR(
      value.HasOnly({"type", "replacement", "str_rep", "add_prefix_space", "prepend_scheme", "split"}));
  TREFOIL_ASSIGN_OR_RETURN(std::string replacement, value.Get("replacement").Character());
  TREFOIL_ASSIGN_OR_RETURN(const PrependScheme scheme, ParsePrependScheme(value));
  TREFOIL_ASSIGN_OR_RETURN(const bool split, value.Get("split").Bool(true));
  return std::make_unique<Metaspace>(std::move(replacement), scheme, split);
}

}  // namespace

absl::StatusOr<std::unique_ptr<PreTokenizer>> ParsePreTokenizer(const JsonValue& value) {
  if (value.IsNull()) return nullptr;
  TREFOIL_ASSIGN_OR_RETURN(const std::string type, value.Get("type").Text());
  static constexpr struct {
    const char* type;
    Parsed (*parse)(const JsonValue& value);
  } kKinds[] = {{"Sequence", ParseSequence},
                {"ByteLevel", ParseByteLevel},
                {"Split", ParseSplit},
                {"Digits", ParseDigits},
                {"Metaspace", ParseMetaspace},
                {"BertPreTokenizer", ParseBert},
                {"Whitespace", ParseWhitespace},
                {"WhitespaceSplit", ParseWhitespaceSplit},
                {"Punctuation", ParsePunctuation},
                {"CharDelimiterSplit", ParseDelimiter}};
  for (const auto& kind : kKinds) {
    if (type == kind.type) return kind.parse(value);
  }
  return value.Get("type").Refuse("a pre-tokenizer that is not known here");
}

}  // namespace trefoil
