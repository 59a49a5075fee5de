#include "data/evaluation/json_fields.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace trefoil {
namespace {

using Json = nlohmann::json;

// A value for a message, short.
std::string Shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

}  // namespace

bool Fields::Has(const char* name) const { return line_.contains(name); }

absl::StatusOr<const Json*> Fields::Find(const char* name) const {
  const auto found = line_.find(name);
  if (found != line_.end()) return &*found;
  return absl::InvalidArgumentError(absl::StrCat("has no field \"", name, "\"; ", takes_));
}

absl::Status Fields::Bad(const char* name, const std::string& rule) const {
  return absl::InvalidArgumentError(
      absl::StrCat("field \"", name, "\" is ", Shown(line_.at(name)), ", must be ", rule, "; ", takes_));
}

absl::StatusOr<std::string> Fields::Text(const char* name) const {
  TREFOIL_ASSIGN_OR_RETURN(const Json* value, Find(name));
  if (!value->is_string()) return Bad(name, "a text");
  return value->get<std::string>();
}

absl::StatusOr<std::string> Fields::TextOr(const char* name, const std::string& otherwise) const {
  return Has(name) ? Text(name) : otherwise;
}

absl::StatusOr<std::vector<std::string>> Fields::Texts(const char* name, size_t least) const {
  TREFOIL_ASSIGN_OR_RETURN(const Json* value, Find(name));
  const auto is_text = [](const Json& each) { return each.is_string() && !each.get_ref<const std::string&>().empty(); };
  if (!value->is_array() || value->size() < least || !std::all_of(value->begin(), value->end(), is_text)) {
    return Bad(name, absl::StrCat("a list of at least ", least, " texts, none of them empty"));
  }
  return value->get<std::vector<std::string>>();
}

absl::StatusOr<int64_t> Fields::Index(const char* name, size_t count, int64_t first) const {
  TREFOIL_ASSIGN_OR_RETURN(const Json* value, Find(name));
  int64_t index = -1;
  const bool spelled = value->is_string() && absl::SimpleAtoi(value->get_ref<const std::string&>(), &index);
  if (value->is_number_integer()) index = value->get<int64_t>();
  const auto behind = first + static_cast<int64_t>(count);
  if ((spelled || value->is_number_integer()) && index >= first && index < behind) return index - first;
  return Bad(name, absl::StrCat("a number from ", first, " to ", behind - 1));
}

}  // namespace trefoil
