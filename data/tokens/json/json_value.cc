#include "data/tokens/json/json_value.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "data/text/json_sax.h"
#include "data/text/utf8.h"

namespace trefoil {
namespace {

using Json = nlohmann::json;

const Json kNull;

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

// The digits as a whole number, as many as fit 64 bits, times or over a power of ten.
double QuickNumber(std::string_view text) {
  const bool negative = text.starts_with('-');
  uint64_t digits = 0;
  int exponent = 0;
  bool fraction = false, full = false;
  size_t at = negative ? 1 : 0;
  for (; at < text.size() && text[at] != 'e' && text[at] != 'E'; ++at) {
    if (text[at] == '.') {
      fraction = true;
      continue;
    }
    const auto digit = static_cast<uint64_t>(text[at] - '0');
    full = full || digits > (UINT64_MAX - digit) / 10;
    if (!full) digits = digits * 10 + digit;
    exponent += full ? (fraction ? 0 : 1) : (fraction ? -1 : 0);
  }
  if (at < text.size()) {
    exponent += static_cast<int>(std::strtol(std::string(text.substr(at + 1)).c_str(), nullptr, 10));
  }
  double value = static_cast<double>(digits);
  for (; exponent < -308 && value != 0; exponent += 308) value /= 1e308;
  const double power = std::strtod(absl::StrCat("1e", std::abs(exponent)).c_str(), nullptr);
  value = exponent < 0 ? value / power : value * power;
  return negative ? -value : value;
}

// Builds the tree, and ends where it gets too deep.
class TreeSax : public JsonSax {
 public:
  explicit TreeSax(Json* root) : root_(root) {}

  bool null() override { return Add(Json()); }
  bool boolean(bool value) override { return Add(Json(value)); }
  bool number_integer(number_integer_t value) override { return Add(Json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return Add(Json(value)); }
  bool number_float(number_float_t, const string_t& text) override { return Add(Json(QuickNumber(text))); }
  bool string(string_t& value) override { return Add(Json(std::move(value))); }
  bool start_object(size_t) override { return Open(Json::object()); }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }
  bool key(string_t& key) override {
    key_ = std::move(key);
    return true;
  }

 private:
  bool Add(Json value) {
    Place(std::move(value));
    return true;
  }
  Json* Place(Json value) {
    if (open_.empty()) {
      *root_ = std::move(value);
      return root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    return &(parent[key_] = std::move(value));
  }
  bool Open(Json value) {
    if (open_.size() >= JsonFile::kDeepest) {
      problem = absl::StrCat("nested deeper than ", JsonFile::kDeepest, " levels");
      return false;
    }
    open_.push_back(Place(std::move(value)));
    return true;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }

  Json* root_;
  std::vector<Json*> open_;  // whole elements are never moved while a child of theirs is open
  std::string key_;
};

}  // namespace

bool JsonValue::IsNull() const { return value_->is_null(); }
bool JsonValue::IsText() const { return value_->is_string(); }
bool JsonValue::IsObject() const { return value_->is_object(); }
bool JsonValue::IsArray() const { return value_->is_array(); }

JsonValue JsonValue::Get(std::string_view key) const {
  const std::string path = absl::StrCat(path_, path_.empty() ? "" : ".", View(key));
  if (!value_->is_object()) return JsonValue(&kNull, path);
  const auto found = value_->find(std::string(key));
  return JsonValue(found == value_->end() ? &kNull : &*found, path);
}

absl::Status JsonValue::Refuse(std::string_view why) const {
  std::string shown = value_->is_object() || value_->is_array()
                          ? absl::StrCat(value_->is_object() ? "an object" : "an array", " of ", value_->size())
                          : value_->dump(-1, ' ', false, Json::error_handler_t::replace);
  constexpr size_t kShown = 80;
  if (shown.size() > kShown) shown = shown.substr(0, Utf8Cut(shown, kShown)) + "...";
  return absl::InvalidArgumentError(absl::StrCat(path_.empty() ? "the file" : path_, ": ", shown, ": ", View(why)));
}

absl::Status JsonValue::Wanted(std::string_view what) const {
  if (value_->is_null()) return absl::InvalidArgumentError(absl::StrCat(path_, ": missing; must be ", View(what)));
  return Refuse(absl::StrCat("must be ", View(what)));
}

absl::StatusOr<std::vector<JsonValue>> JsonValue::Items() const {
  if (!value_->is_array()) return Wanted("an array");
  std::vector<JsonValue> items;
  items.reserve(value_->size());
  for (size_t i = 0; i < value_->size(); ++i) items.emplace_back(&(*value_)[i], absl::StrCat(path_, "[", i, "]"));
  return items;
}

absl::Status JsonValue::HasOnly(std::initializer_list<std::string_view> keys) const {
  if (!value_->is_object()) return Wanted("an object");
  for (const auto& [key, value] : value_->items()) {
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
    return Get(key).Refuse("an option that is not known here");
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> JsonValue::Bool(std::optional<bool> fallback) const {
  if (value_->is_null() && fallback) return *fallback;
  if (!value_->is_boolean()) return Wanted("true or false");
  return value_->get<bool>();
}

absl::StatusOr<int64_t> JsonValue::Integer(std::optional<int64_t> fallback) const {
  if (value_->is_null() && fallback) return *fallback;
  if (!value_->is_number_integer() || (value_->is_number_unsigned() && value_->get<uint64_t>() > INT64_MAX)) {
    return Wanted("a whole number");
  }
  return value_->get<int64_t>();
}

absl::StatusOr<double> JsonValue::Number() const {
  if (!value_->is_number()) return Wanted("a number");
  return value_->get<double>();
}

absl::StatusOr<std::string> JsonValue::Text(std::optional<std::string> fallback) const {
  if (value_->is_null() && fallback) return *std::move(fallback);
  if (!value_->is_string()) return Wanted("a text");
  return value_->get<std::string>();
}

absl::StatusOr<std::string> JsonValue::Character(std::optional<std::string> fallback) const {
  TREFOIL_ASSIGN_OR_RETURN(std::string text, Text(std::move(fallback)));
  if (text.empty() || Utf8Length(text) != text.size()) return Wanted("a text of one character");
  return text;
}

JsonFile::JsonFile(std::unique_ptr<Json> root) : root_(std::move(root)) {}
JsonFile::JsonFile(JsonFile&&) noexcept = default;
JsonFile::~JsonFile() = default;

absl::StatusOr<JsonFile> JsonFile::Parse(std::string_view content) {
  if (content.size() > kLargestFile) {
    return absl::InvalidArgumentError(
        absl::StrCat(content.size(), " bytes of JSON; at most ", kLargestFile, " are read"));
  }
  auto root = std::make_unique<Json>();
  TreeSax sax(root.get());
  if (!Json::sax_parse(content.begin(), content.end(), &sax)) return absl::InvalidArgumentError(sax.problem);
  return JsonFile(std::move(root));
}

JsonValue JsonFile::root() const { return JsonValue(root_.get(), ""); }

}  // namespace trefoil
