#include "data/chat/chat_value.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <cmath>

namespace trefoil::chat {
namespace {

// Python's: the shortest that reads back, with a point.
std::string DoubleText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::string text;
  for (int digits = 1; digits <= 17; ++digits) {
    text = absl::StrFormat("%.*g", digits, value);
    if (std::stod(text) == value) break;
  }
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

std::string Quoted(const std::string& text, bool json) {
  const char quote = json ? '"' : text.find('\'') != std::string::npos && text.find('"') == std::string::npos ? '"' : '\'';
  std::string quoted(1, quote);
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if (c == quote || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (c == '\n' || c == '\r' || c == '\t') {
      quoted += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (json && (c == '\b' || c == '\f')) {
      quoted += c == '\b' ? "\\b" : "\\f";
    } else if (code < 0x20) {
      quoted += absl::StrFormat(json ? "\\u%04x" : "\\x%02x", code);
    } else {
      quoted += c;
    }
  }
  return quoted + quote;
}

// Python's repr, or JSON.
std::string Spelled(const Value& value, bool json, int indent, int level) {
  const std::string line = indent > 0 ? "\n" + std::string(static_cast<size_t>(indent * (level + 1)), ' ') : "";
  const std::string last = indent > 0 ? "\n" + std::string(static_cast<size_t>(indent * level), ' ') : "";
  const std::string comma = indent > 0 ? "," + line : ", ";
  if (const List* list = value.list()) {
    std::string text = "[";
    for (const Value& element : *list) {
      absl::StrAppend(&text, text.size() > 1 ? comma : line, Spelled(element, json, indent, level + 1));
    }
    return text + (list->empty() ? "" : last) + "]";
  }
  if (const Dict* dict = value.dict()) {
    std::string text = "{";
    for (const auto& [key, element] : *dict) {
      absl::StrAppend(&text, text.size() > 1 ? comma : line, Quoted(key, json), ": ",
                      Spelled(element, json, indent, level + 1));
    }
    return text + (dict->empty() ? "" : last) + "}";
  }
  if (const std::string* text = value.text()) return Quoted(*text, json);
  if (json && value.none()) return "null";
  if (const bool* truth = value.As<bool>(); json && truth != nullptr) return *truth ? "true" : "false";
  return value.ToText();
}

}  // namespace

const Dict* Value::dict() const {
  if (const auto* space = As<std::shared_ptr<Namespace>>()) return &(*space)->values;
  const auto* held = As<std::shared_ptr<const Dict>>();
  return held == nullptr ? nullptr : held->get();
}

double Value::AsDouble() const {
  if (const auto* integer = As<int64_t>()) return static_cast<double>(*integer);
  if (const auto* truth = As<bool>()) return *truth ? 1 : 0;
  const auto* real = As<double>();
  return real == nullptr ? 0 : *real;
}

bool Value::truth() const {
  if (undefined() || none()) return false;
  if (const auto* one = As<bool>()) return *one;
  if (number()) return AsDouble() != 0;
  if (text() != nullptr) return !text()->empty();
  if (list() != nullptr) return !list()->empty();
  if (As<std::shared_ptr<Namespace>>() != nullptr) return true;
  return dict() == nullptr || !dict()->empty();
}

std::string Value::ToText() const {
  if (undefined()) return "";
  if (none()) return "None";
  if (const auto* one = As<bool>()) return *one ? "True" : "False";
  if (const auto* integer = As<int64_t>()) return absl::StrCat(*integer);
  if (const auto* real = As<double>()) return DoubleText(*real);
  if (text() != nullptr) return *text();
  return As<Macro>() != nullptr ? "<macro>" : Spelled(*this, /*json=*/false, 0, 0);
}

std::string Value::ToJson(int indent) const { return Spelled(*this, /*json=*/true, indent, 0); }

const char* Value::kind() const {
  constexpr const char* kKinds[] = {"undefined", "none", "boolean",   "number", "number",
                                    "string",    "list", "mapping", "namespace", "macro"};
  return kKinds[held_.index()];
}

bool Same(const Value& a, const Value& b) {
  const bool numbers = (a.number() || a.As<bool>()) && (b.number() || b.As<bool>());
  if (numbers) return a.AsDouble() == b.AsDouble();
  if (a.none() || b.none()) return a.none() && b.none();
  if (a.undefined() || b.undefined()) return a.undefined() && b.undefined();
  if (a.text() != nullptr && b.text() != nullptr) return *a.text() == *b.text();
  if (a.list() != nullptr && b.list() != nullptr) {
    return std::equal(a.list()->begin(), a.list()->end(), b.list()->begin(), b.list()->end(), Same);
  }
  if (a.dict() == nullptr || b.dict() == nullptr || a.dict()->size() != b.dict()->size()) return false;
  return std::all_of(a.dict()->begin(), a.dict()->end(), [&](const auto& entry) {
    const Value* other = Find(*b.dict(), entry.first);
    return other != nullptr && Same(entry.second, *other);
  });
}

const Value* Find(const Dict& dict, const std::string& key) {
  const auto found = std::find_if(dict.begin(), dict.end(), [&](const auto& entry) { return entry.first == key; });
  return found == dict.end() ? nullptr : &found->second;
}

}  // namespace trefoil::chat
