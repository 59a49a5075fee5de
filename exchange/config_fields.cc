#include "exchange/config_fields.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "exchange/json.h"

namespace trefoil {

struct ConfigFields::Json {
  nlohmann::json value;
};

ConfigFields::ConfigFields() = default;
ConfigFields::ConfigFields(ConfigFields&&) noexcept = default;
ConfigFields& ConfigFields::operator=(ConfigFields&&) noexcept = default;
ConfigFields::~ConfigFields() = default;

absl::StatusOr<ConfigFields> ConfigFields::Parse(const std::string& text, const std::string& what) {
  TREFOIL_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text, what));
  if (!json.is_object()) return absl::DataLossError(what + ": is no JSON object");
  return Of(json, what);
}

ConfigFields ConfigFields::Of(const nlohmann::json& object, const std::string& what) {
  ConfigFields fields;
  fields.what_ = what;
  fields.json_ = std::make_unique<Json>(Json{object});
  return fields;
}

namespace {

// Null: absent or null.
const nlohmann::json* ValueOf(const nlohmann::json& object, const std::string& name) {
  const auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

bool IsInt(const nlohmann::json& json) {
  return json.is_number_unsigned() && json.get<uint64_t>() <= std::numeric_limits<int32_t>::max();
}

std::string Text(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

bool ConfigFields::Has(const std::string& name) { return ValueOf(json_->value, name) != nullptr; }

bool ConfigFields::IsNull(const std::string& name) { return json_->value.contains(name) && !Has(name); }

int32_t ConfigFields::Int(const std::string& name, std::optional<int32_t> otherwise) {
  read_.insert(name);
  const nlohmann::json* const value = ValueOf(json_->value, name);
  if (value == nullptr) {
    if (!otherwise.has_value()) Wrong(prefix_ + name + ": missing");
    return otherwise.value_or(0);
  }
  if (IsInt(*value)) return value->get<int32_t>();
  Wrong(absl::StrCat(prefix_, name, ": ", Text(*value), ", must be an integer from 0 to 2^31 - 1"));
  return 0;
}

double ConfigFields::Number(const std::string& name, double otherwise) {
  read_.insert(name);
  const nlohmann::json* const value = ValueOf(json_->value, name);
  if (value == nullptr) return otherwise;
  if (value->is_number()) return value->get<double>();
  Wrong(absl::StrCat(prefix_, name, ": ", Text(*value), ", must be a number"));
  return otherwise;
}

bool ConfigFields::Bool(const std::string& name, bool otherwise) {
  read_.insert(name);
  const nlohmann::json* const value = ValueOf(json_->value, name);
  if (value == nullptr) return otherwise;
  if (value->is_boolean()) return value->get<bool>();
  Wrong(absl::StrCat(prefix_, name, ": ", Text(*value), ", must be true or false"));
  return otherwise;
}

std::string ConfigFields::Word(const std::string& name, const std::string& otherwise) {
  read_.insert(name);
  const nlohmann::json* const value = ValueOf(json_->value, name);
  if (value == nullptr) return otherwise;
  if (value->is_string()) return value->get<std::string>();
  Wrong(absl::StrCat(prefix_, name, ": ", Text(*value), ", must be a word"));
  return otherwise;
}

std::vector<std::string> ConfigFields::Words(const std::string& name) {
  read_.insert(name);
  const nlohmann::json* const value = ValueOf(json_->value, name);
  std::vector<std::string> words;
  if (value == nullptr) return words;
  if (value->is_array()) {
    for (const nlohmann::json& word : *value) {
      if (word.is_string()) words.push_back(word.get<std::string>());
    }
    if (words.size() == value->size()) return words;
  }
  Wrong(absl::StrCat(prefix_, name, ": ", Text(*value), ", must be a list of words"));
  return {};
}

std::vector<int32_t> ConfigFields::IntOrInts(const std::string& name) {
  read_.insert(name);
  const nlohmann::json* const value = ValueOf(json_->value, name);
  if (value == nullptr) return {};
  if (IsInt(*value)) return {value->get<int32_t>()};
  if (value->is_array() && std::all_of(value->begin(), value->end(), IsInt)) return value->get<std::vector<int32_t>>();
  Wrong(absl::StrCat(prefix_, name, ": ", Text(*value), ", must be an integer or a list of them"));
  return {};
}

ConfigFields* ConfigFields::Object(const std::string& name) {
  read_.insert(name);
  const nlohmann::json* const value = ValueOf(json_->value, name);
  if (value == nullptr) return nullptr;
  if (!value->is_object()) {
    Wrong(absl::StrCat(prefix_, name, ": ", Text(*value), ", must be an object"));
    return nullptr;
  }
  objects_.push_back(std::unique_ptr<ConfigFields>(new ConfigFields()));
  ConfigFields& fields = *objects_.back();
  fields.what_ = what_;
  fields.prefix_ = prefix_ + name + ".";
  fields.json_ = std::make_unique<Json>(Json{*value});
  return &fields;
}

std::vector<std::string> ConfigFields::NamesByNumber(const std::string& name) {
  read_.insert(name);
  const nlohmann::json* const value = ValueOf(json_->value, name);
  std::vector<std::string> names;
  if (value == nullptr || !value->is_object()) return names;
  for (size_t i = 0; i < value->size(); ++i) {
    const nlohmann::json* const word = ValueOf(*value, std::to_string(i));
    if (word == nullptr || !word->is_string()) return {};
    names.push_back(word->get<std::string>());
  }
  return names;
}

void ConfigFields::MustBe(const std::string& name, bool value) {
  if (Bool(name, value) == value) return;
  Wrong(absl::StrCat(prefix_, name, ": ", value ? "false" : "true", ", which is not implemented; must be ",
                     value ? "true" : "false"));
}

void ConfigFields::MustBe(const std::string& name, const char* value) {
  const std::string found = Word(name, value);
  if (found != value)
    Wrong(absl::StrCat(prefix_, name, ": \"", found, "\", which is not implemented; must be \"", value, "\""));
}

void ConfigFields::MustBeEmpty(const std::string& name) {
  read_.insert(name);
  const nlohmann::json* const value = ValueOf(json_->value, name);
  if (value != nullptr && !value->empty()) Wrong(absl::StrCat(prefix_, name, ": ", Text(*value), ", must be empty"));
}

void ConfigFields::Ignore(const std::string& name) { read_.insert(name); }

void ConfigFields::IgnoreRest() {
  for (const auto& [name, value] : json_->value.items()) read_.insert(name);
}

absl::Status ConfigFields::Finish() {
  std::vector<std::string> problems = problems_;
  for (const auto& [name, value] : json_->value.items()) {
    if (read_.contains(name)) continue;
    problems.push_back(absl::StrCat(prefix_, name, ": ", Text(value).substr(0, 60),
                                    ": not understood, and it may change what the network computes"));
  }
  for (const auto& object : objects_) {
    const absl::Status status = object->Finish();
    if (!status.ok()) problems.push_back(std::string(status.message()));
  }
  if (problems.empty()) return absl::OkStatus();
  const std::string all = absl::StrJoin(problems, "\n  ");
  return absl::InvalidArgumentError(prefix_.empty() ? what_ + ":\n  " + all : all);
}

}  // namespace trefoil
