#include "data/chat/chat_functions.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <utility>

namespace trefoil::chat {
namespace {

using Or = absl::StatusOr<Value>;

template <typename... Parts>
absl::Status Wrong(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

// Longer texts and lists are not made.
constexpr int64_t kLongest = int64_t{1} << 24;
constexpr int64_t kLongestRange = 100'000;

std::vector<std::string> Characters(const std::string& text) {
  std::vector<std::string> characters;
  for (const char c : text) {
    const bool continues = (static_cast<unsigned char>(c) & 0xc0) == 0x80 && !characters.empty();
    if (continues) {
      characters.back() += c;
    } else {
      characters.emplace_back(1, c);
    }
  }
  return characters;
}

absl::Status NotThere(const Value& value, const std::string& wanted) {
  const auto* missing = value.As<Undefined>();
  return Wrong("'", missing->name, "' is undefined, and ", wanted, " is asked of it");
}

absl::StatusOr<std::string> Text(const Value& value, const std::string& what) {
  if (value.undefined()) return NotThere(value, what);
  if (value.text() == nullptr) return Wrong(what, ": a ", value.kind(), ", must be a string");
  return *value.text();
}

std::string Stripped(const std::string& text, const std::string& characters, bool left, bool right) {
  const size_t begin = left ? std::min(text.find_first_not_of(characters), text.size()) : 0;
  const size_t last = right ? text.find_last_not_of(characters) : text.size() - 1;
  if (text.empty() || last == std::string::npos || begin > last) return "";
  return text.substr(begin, last - begin + 1);
}

constexpr char kBlank[] = " \t\n\r\f\v";

std::string Capitalized(std::string text) {
  absl::AsciiStrToLower(&text);
  if (!text.empty()) text[0] = absl::ascii_toupper(static_cast<unsigned char>(text[0]));
  return text;
}

std::string Title(std::string text) {
  bool begins = true;
  for (char& c : text) {
    const auto code = static_cast<unsigned char>(c);
    c = begins ? absl::ascii_toupper(code) : absl::ascii_tolower(code);
    begins = !absl::ascii_isalpha(code);
  }
  return text;
}

Or Split(const std::string& text, const Arguments& arguments) {
  const Value* separator = arguments.Get(0, "sep");
  const Value* most = arguments.Get(1, "maxsplit");
  int64_t left = most != nullptr && most->As<int64_t>() != nullptr ? *most->As<int64_t>() : -1;
  List parts;
  if (separator == nullptr || separator->none()) {
    if (left >= 0) return Wrong("split without a separator but with maxsplit is not in the subset");
    for (std::string& part : std::vector<std::string>(absl::StrSplit(text, absl::ByAnyChar(kBlank), absl::SkipEmpty()))) {
      parts.push_back(std::move(part));
    }
    return Value(std::move(parts));
  }
  TREFOIL_ASSIGN_OR_RETURN(const std::string by, Text(*separator, "split"));
  if (by.empty()) return Wrong("split by an empty text");
  size_t at = 0;
  for (size_t found; left != 0 && (found = text.find(by, at)) != std::string::npos; --left) {
    parts.push_back(text.substr(at, found - at));
    at = found + by.size();
  }
  parts.push_back(text.substr(at));
  return Value(std::move(parts));
}

absl::StatusOr<bool> BeginsOrEnds(const std::string& text, const Value* what, bool begins) {
  List one = what == nullptr ? List() : what->list() != nullptr ? *what->list() : List{*what};
  for (const Value& part : one) {
    TREFOIL_ASSIGN_OR_RETURN(const std::string affix, Text(part, begins ? "startswith" : "endswith"));
    if (begins ? text.starts_with(affix) : text.ends_with(affix)) return true;
  }
  return false;
}

Or Replaced(const std::string& text, const Arguments& arguments) {
  const Value *from = arguments.Get(0, "old"), *to = arguments.Get(1, "new");
  if (from == nullptr || to == nullptr || from->text() == nullptr || to->text() == nullptr) {
    return Wrong("replace takes two texts");
  }
  if (from->text()->empty()) return Wrong("replace of an empty text is not in the subset");
  const auto grown = static_cast<int64_t>(text.size() / from->text()->size() * to->text()->size() + text.size());
  if (grown > kLongest) return Wrong("replace makes a text of more than ", kLongest, " bytes");
  return Value(absl::StrReplaceAll(text, {{*from->text(), *to->text()}}));
}

Or MethodOfText(const std::string& text, const std::string& name, const Arguments& arguments) {
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    const Value* characters = arguments.Get(0, "chars");
    const bool given = characters != nullptr && characters->text() != nullptr;
    return Value(Stripped(text, given ? *characters->text() : kBlank, name != "rstrip", name != "lstrip"));
  }
  if (name == "split") return Split(text, arguments);
  if (name == "startswith" || name == "endswith") {
    TREFOIL_ASSIGN_OR_RETURN(const bool does, BeginsOrEnds(text, arguments.Get(0, "prefix"), name == "startswith"));
    return Value(does);
  }
  if (name == "replace") return Replaced(text, arguments);
  if (name == "upper") return Value(absl::AsciiStrToUpper(text));
  if (name == "lower") return Value(absl::AsciiStrToLower(text));
  if (name == "capitalize") return Value(Capitalized(text));
  if (name == "title") return Value(Title(text));
  if (name == "join") return Filter("join", arguments.placed.empty() ? Value() : arguments.placed[0], {{text}, {}});
  return Wrong("the method ", name, " of a string is not in the subset");
}

Or MethodOfDict(const Dict& dict, const std::string& name, const Arguments& arguments) {
  List list;
  if (name == "get") {
    const Value* key = arguments.Get(0, "key");
    if (key == nullptr || key->text() == nullptr) return Wrong("get takes a text");
    if (const Value* found = Find(dict, *key->text())) return *found;
    const Value* otherwise = arguments.Get(1, "default");
    return otherwise == nullptr ? Value(None{}) : *otherwise;
  }
  if (name != "items" && name != "keys" && name != "values") {
    return Wrong("the method ", name, " of a mapping is not in the subset");
  }
  for (const auto& [key, value] : dict) {
    list.push_back(name == "keys" ? Value(key) : name == "values" ? value : Value(List{key, value}));
  }
  return Value(std::move(list));
}

// The attribute of an element that selectattr and map go by: "role", or "function.name".
Or AttributeOf(const Value& element, const std::string& path) {
  Value value = element;
  for (const std::string& name : std::vector<std::string>(absl::StrSplit(path, '.'))) {
    if (value.dict() == nullptr) return Value(Undefined{name});
    const Value* found = Find(*value.dict(), name);
    value = found == nullptr ? Value(Undefined{name}) : *found;
  }
  return value;
}

Or Select(const std::string& name, const Value& value, const Arguments& arguments) {
  TREFOIL_ASSIGN_OR_RETURN(const List all, Elements(value));
  const bool by_attribute = name.ends_with("attr"), selects = name.starts_with("select");
  size_t next = 0;
  std::string attribute;
  if (by_attribute) {
    if (arguments.placed.empty() || arguments.placed[0].text() == nullptr) return Wrong(name, " takes an attribute's name");
    attribute = *arguments.placed[next++].text();
  }
  List chosen;
  for (const Value& element : all) {
    Value one = element;
    if (by_attribute) {
      TREFOIL_ASSIGN_OR_RETURN(one, AttributeOf(element, attribute));
    }
    bool holds = one.truth();
    if (next < arguments.placed.size()) {
      TREFOIL_ASSIGN_OR_RETURN(const std::string test, Text(arguments.placed[next], name));
      Arguments rest;
      rest.placed.assign(arguments.placed.begin() + static_cast<ptrdiff_t>(next) + 1, arguments.placed.end());
      TREFOIL_ASSIGN_OR_RETURN(const Value passed, Test(test, one, rest));
      holds = passed.truth();
    }
    if (holds == selects) chosen.push_back(element);
  }
  return Value(std::move(chosen));
}

Or Mapped(const Value& value, const Arguments& arguments) {
  TREFOIL_ASSIGN_OR_RETURN(const List all, Elements(value));
  const Value* attribute = Find(arguments.named, "attribute");
  List mapped;
  for (const Value& element : all) {
    if (attribute != nullptr && attribute->text() != nullptr) {
      TREFOIL_ASSIGN_OR_RETURN(Value one, AttributeOf(element, *attribute->text()));
      mapped.push_back(std::move(one));
      continue;
    }
    if (arguments.placed.empty() || arguments.placed[0].text() == nullptr) return Wrong("map takes attribute= or a filter");
    Arguments rest;
    rest.placed.assign(arguments.placed.begin() + 1, arguments.placed.end());
    TREFOIL_ASSIGN_OR_RETURN(Value one, Filter(*arguments.placed[0].text(), element, rest));
    mapped.push_back(std::move(one));
  }
  return Value(std::move(mapped));
}

Or Joined(const Value& value, const Arguments& arguments) {
  TREFOIL_ASSIGN_OR_RETURN(const List all, Elements(value));
  const Value* between = arguments.Get(0, "d");
  const std::string by = between == nullptr ? "" : between->ToText();
  std::string text;
  for (size_t i = 0; i < all.size(); ++i) {
    absl::StrAppend(&text, i > 0 ? by : "", all[i].ToText());
    if (static_cast<int64_t>(text.size()) > kLongest) return Wrong("join makes a text of more than ", kLongest, " bytes");
  }
  return Value(std::move(text));
}

absl::StatusOr<int64_t> Length(const Value& value) {
  if (value.text() != nullptr) return std::ssize(Characters(*value.text()));
  if (value.list() != nullptr) return std::ssize(*value.list());
  if (value.dict() != nullptr) return std::ssize(*value.dict());
  return Wrong("length of a ", value.kind());
}

Or Arithmetic(const std::string& name, const Value& a, const Value& b) {
  const auto *x = a.As<int64_t>(), *y = b.As<int64_t>();
  if (x == nullptr || y == nullptr) {
    const double left = a.AsDouble(), right = b.AsDouble();
    if (name == "+") return Value(left + right);
    if (name == "-") return Value(left - right);
    if (name == "*") return Value(left * right);
    return Wrong("the operator ", name, " of numbers with a point is not in the subset");
  }
  int64_t result = 0;
  const bool overflows = name == "+"   ? __builtin_add_overflow(*x, *y, &result)
                         : name == "-" ? __builtin_sub_overflow(*x, *y, &result)
                         : name == "*" ? __builtin_mul_overflow(*x, *y, &result)
                                       : *y == 0 || (*x == INT64_MIN && *y == -1);
  if (overflows) return Wrong(*x, " ", name, " ", *y, " is no number");
  if (name == "//" || name == "%") {
    // Python rounds down.
    int64_t quotient = *x / *y;
    if (*x % *y != 0 && (*x < 0) != (*y < 0)) --quotient;
    result = name == "//" ? quotient : *x - quotient * *y;
  }
  return Value(result);
}

absl::StatusOr<bool> Contains(const Value& all, const Value& one) {
  if (all.text() != nullptr) {
    TREFOIL_ASSIGN_OR_RETURN(const std::string part, Text(one, "in"));
    return all.text()->find(part) != std::string::npos;
  }
  if (all.undefined()) return NotThere(all, "in");
  TREFOIL_ASSIGN_OR_RETURN(const List elements, Elements(all));
  return std::any_of(elements.begin(), elements.end(), [&](const Value& element) { return Same(element, one); });
}

}  // namespace

const Value* Arguments::Get(size_t i, const std::string& name) const {
  if (i < placed.size()) return &placed[i];
  return Find(named, name);
}

absl::StatusOr<List> Elements(const Value& value) {
  if (value.list() != nullptr) return *value.list();
  List elements;
  if (value.text() != nullptr) {
    for (std::string& character : Characters(*value.text())) elements.push_back(std::move(character));
    return elements;
  }
  if (value.dict() != nullptr) {
    for (const auto& entry : *value.dict()) elements.push_back(entry.first);
    return elements;
  }
  if (value.undefined()) return elements;
  return Wrong("a ", value.kind(), " has no elements");
}

Or Attribute(const Value& object, const std::string& name) {
  if (object.undefined()) return NotThere(object, absl::StrCat("'", name, "'"));
  if (object.dict() != nullptr) {
    if (const Value* found = Find(*object.dict(), name)) return *found;
  }
  return Value(Undefined{name});
}

Or Item(const Value& object, const Value& index) {
  if (object.undefined()) return NotThere(object, "an element");
  if (index.text() != nullptr) return Attribute(object, *index.text());
  const auto* number = index.As<int64_t>();
  if (number == nullptr) return Wrong("an index that is a ", index.kind());
  if (object.list() == nullptr && object.text() == nullptr) return Value(Undefined{absl::StrCat(*number)});
  TREFOIL_ASSIGN_OR_RETURN(const List elements, Elements(object));
  const int64_t at = *number < 0 ? *number + std::ssize(elements) : *number;
  if (at < 0 || at >= std::ssize(elements)) return Value(Undefined{absl::StrCat("element ", *number)});
  return elements[static_cast<size_t>(at)];
}

Or Slice(const Value& object, std::optional<int64_t> from, std::optional<int64_t> to, int64_t step) {
  if (object.undefined()) return NotThere(object, "a slice");
  if (object.list() == nullptr && object.text() == nullptr) return Wrong("a slice of a ", object.kind());
  if (step == 0) return Wrong("a slice whose step is 0");
  TREFOIL_ASSIGN_OR_RETURN(const List elements, Elements(object));
  const int64_t count = std::ssize(elements), low = step > 0 ? 0 : -1, high = step > 0 ? count : count - 1;
  const auto place = [&](const std::optional<int64_t>& given, int64_t otherwise) {
    if (!given.has_value()) return otherwise;
    return std::clamp(*given < 0 ? std::max(*given, -count - 1) + count : *given, low, high);
  };
  const int64_t begin = place(from, step > 0 ? low : high), end = place(to, step > 0 ? high : low);
  List chosen;
  step = std::clamp(step, -count - 1, count + 1);
  for (int64_t i = begin; step > 0 ? i < end : i > end; i += step) chosen.push_back(elements[static_cast<size_t>(i)]);
  if (object.list() != nullptr) return Value(std::move(chosen));
  return Joined(Value(std::move(chosen)), {});
}

Or Operator(const std::string& name, const Value& a, const Value& b) {
  if (name == "==") return Value(Same(a, b));
  if (name == "!=") return Value(!Same(a, b));
  if (name == "in" || name == "not in") {
    TREFOIL_ASSIGN_OR_RETURN(const bool contains, Contains(b, a));
    return Value(contains == (name == "in"));
  }
  if (name == "~") return Value(a.ToText() + b.ToText());
  for (const Value* value : {&a, &b}) {
    if (value->undefined()) return NotThere(*value, absl::StrCat("the operator ", name));
  }
  const bool texts = a.text() != nullptr && b.text() != nullptr;
  const bool numbers = (a.number() || a.As<bool>() != nullptr) && (b.number() || b.As<bool>() != nullptr);
  if (name == "<" || name == ">" || name == "<=" || name == ">=") {
    if (!texts && !numbers) return Wrong("a ", a.kind(), " ", name, " a ", b.kind());
    const int order = texts ? a.text()->compare(*b.text())
                            : (a.AsDouble() > b.AsDouble() ? 1 : 0) - (a.AsDouble() < b.AsDouble() ? 1 : 0);
    return Value(name[0] == '<' ? (order < 0 || (name == "<=" && order == 0)) : (order > 0 || (name == ">=" && order == 0)));
  }
  if (name == "+" && texts) return Value(*a.text() + *b.text());
  if (name == "+" && a.list() != nullptr && b.list() != nullptr) {
    List joined = *a.list();
    joined.insert(joined.end(), b.list()->begin(), b.list()->end());
    return Value(std::move(joined));
  }
  if (numbers && a.number() && b.number()) return Arithmetic(name, a, b);
  if (name == "*" && a.text() != nullptr && b.As<int64_t>() != nullptr) {
    const int64_t times = std::max<int64_t>(0, *b.As<int64_t>());
    if (times > kLongest / std::max<int64_t>(1, std::ssize(*a.text()))) return Wrong("a text * ", times, " is too long");
    std::string text;
    for (int64_t i = 0; i < times; ++i) text += *a.text();
    return Value(std::move(text));
  }
  return Wrong("a ", a.kind(), " ", name, " a ", b.kind());
}

Or Filter(const std::string& name, const Value& value, const Arguments& arguments) {
  if (name == "default" || name == "d") {
    const Value *otherwise = arguments.Get(0, "default_value"), *falsy = arguments.Get(1, "boolean");
    const bool missing = value.undefined() || (falsy != nullptr && falsy->truth() && !value.truth());
    return !missing ? value : otherwise == nullptr ? Value("") : *otherwise;
  }
  if (name == "tojson") {
    if (value.undefined()) return NotThere(value, name);
    const Value* indent = arguments.Get(0, "indent");
    const auto* spaces = indent == nullptr ? nullptr : indent->As<int64_t>();
    return Value(value.ToJson(spaces == nullptr ? 0 : static_cast<int>(std::clamp<int64_t>(*spaces, 0, 16))));
  }
  if (name == "string" || name == "safe") return Value(value.ToText());
  if (name == "trim") return Value(Stripped(value.ToText(), kBlank, true, true));
  if (name == "upper") return Value(absl::AsciiStrToUpper(value.ToText()));
  if (name == "lower") return Value(absl::AsciiStrToLower(value.ToText()));
  if (name == "capitalize") return Value(Capitalized(value.ToText()));
  if (name == "title") return Value(Title(value.ToText()));
  if (name == "replace") return Replaced(value.ToText(), arguments);
  if (name == "length" || name == "count") {
    if (value.undefined()) return Value(int64_t{0});
    TREFOIL_ASSIGN_OR_RETURN(const int64_t length, Length(value));
    return Value(length);
  }
  if (name == "int") {
    if (value.number()) return Value(static_cast<int64_t>(value.AsDouble()));
    int64_t number = 0;
    if (value.text() != nullptr) (void)absl::SimpleAtoi(*value.text(), &number);
    return Value(number);
  }
  if (name == "join") return Joined(value, arguments);
  if (name == "selectattr" || name == "rejectattr" || name == "select" || name == "reject") {
    return Select(name, value, arguments);
  }
  if (name == "map") return Mapped(value, arguments);
  if (name == "items") return value.dict() == nullptr ? Value(List()) : MethodOfDict(*value.dict(), name, {});
  if (name == "list" || name == "first" || name == "last" || name == "reverse") {
    TREFOIL_ASSIGN_OR_RETURN(List elements, Elements(value));
    if (name == "list") return Value(std::move(elements));
    std::reverse(elements.begin(), elements.end());
    if (name == "reverse") return value.text() != nullptr ? Joined(Value(std::move(elements)), {}) : Value(std::move(elements));
    if (elements.empty()) return Value(Undefined{name});
    return name == "last" ? elements.front() : elements.back();
  }
  return Wrong("the filter ", name, " is not in the subset");
}

Or Test(const std::string& name, const Value& value, const Arguments& arguments) {
  if (name == "defined") return Value(!value.undefined());
  if (name == "undefined") return Value(value.undefined());
  if (name == "none") return Value(value.none());
  if (name == "string") return Value(value.text() != nullptr);
  if (name == "mapping") return Value(value.dict() != nullptr);
  if (name == "iterable") return Value(value.text() != nullptr || value.list() != nullptr || value.dict() != nullptr || value.undefined());
  if (name == "sequence") return Value(value.text() != nullptr || value.list() != nullptr || value.dict() != nullptr || value.undefined());
  if (name == "boolean") return Value(value.As<bool>() != nullptr);
  if (name == "number") return Value(value.number() || value.As<bool>() != nullptr);
  if (name == "integer") return Value(value.As<int64_t>() != nullptr);
  if (name == "true" || name == "false") return Value(value.As<bool>() != nullptr && *value.As<bool>() == (name == "true"));
  const bool compares = name == "equalto" || name == "eq" || name == "==" || name == "ne" || name == "!=" || name == "in";
  if (compares) {
    if (arguments.placed.empty()) return Wrong("the test ", name, " takes a value");
    return Operator(name == "in" ? "in" : name == "ne" || name == "!=" ? "!=" : "==", value, arguments.placed[0]);
  }
  return Wrong("the test ", name, " is not in the subset");
}

Or Method(const Value& object, const std::string& name, const Arguments& arguments) {
  if (object.undefined()) return NotThere(object, absl::StrCat(name, "()"));
  if (object.text() != nullptr) return MethodOfText(*object.text(), name, arguments);
  if (object.dict() != nullptr) return MethodOfDict(*object.dict(), name, arguments);
  return Wrong("the method ", name, " of a ", object.kind(), " is not in the subset");
}

bool IsFunction(const std::string& name) {
  return name == "range" || name == "namespace" || name == "dict" || name == "raise_exception" || name == "strftime_now";
}

Or Function(const std::string& name, const Arguments& arguments, const std::tm& now) {
  if (name == "namespace") {
    auto space = std::make_shared<Namespace>();
    space->values = arguments.named;
    return Value(std::move(space));
  }
  if (name == "dict") return Value(arguments.named);
  if (name == "raise_exception") {
    return Wrong("the template refuses this conversation: ", arguments.placed.empty() ? "" : arguments.placed[0].ToText());
  }
  if (name == "strftime_now") {
    if (arguments.placed.empty() || arguments.placed[0].text() == nullptr) return Wrong("strftime_now takes a format");
    char text[256];
    return Value(std::string(text, std::strftime(text, sizeof(text), arguments.placed[0].text()->c_str(), &now)));
  }
  if (name == "range") {
    int64_t from = 0, to = 0, step = 1;
    for (const Value& value : arguments.placed) {
      if (value.As<int64_t>() == nullptr) return Wrong("range of a ", value.kind());
    }
    const auto at = [&](size_t i) { return *arguments.placed[i].As<int64_t>(); };
    if (arguments.placed.empty() || arguments.placed.size() > 3) return Wrong("range takes one to three numbers");
    to = arguments.placed.size() == 1 ? at(0) : at(1);
    if (arguments.placed.size() > 1) from = at(0);
    if (arguments.placed.size() > 2) step = at(2);
    if (step == 0) return Wrong("range by 0");
    List list;
    for (int64_t i = from; step > 0 ? i < to : i > to;) {
      list.push_back(i);
      if (std::ssize(list) > kLongestRange) return Wrong("range of more than ", kLongestRange);
      if (__builtin_add_overflow(i, step, &i)) break;
    }
    return Value(std::move(list));
  }
  return Wrong("'", name, "' is undefined, or a function that is not in the subset");
}

}  // namespace trefoil::chat
