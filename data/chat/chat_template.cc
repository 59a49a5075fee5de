#include "data/chat/chat_template.h"

#include <absl/strings/str_cat.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "data/chat/chat_run.h"
#include "data/chat/template_tree.h"

namespace trefoil {
namespace {

using Json = nlohmann::json;

absl::StatusOr<Json> Parsed(const std::string& tokenizer_config) {
  if (tokenizer_config.empty()) return Json::object();
  Json json = Json::parse(tokenizer_config, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError("tokenizer_config.json: is no JSON object");
  return json;
}

absl::Status InTemplate(const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat("chat template, ", std::string(status.message())));
}

}  // namespace

absl::StatusOr<ChatTemplate> ChatTemplate::Parse(std::string_view source) {
  auto tree = chat::ParseTemplate(source);
  TREFOIL_RETURN_IF_ERROR(InTemplate(tree.status()));
  ChatTemplate parsed;
  parsed.tree_ = *std::move(tree);
  return parsed;
}

absl::StatusOr<std::string> ChatTemplate::Write(std::span<const Message> messages, const ChatOptions& options) const {
  chat::List list;
  for (const Message& message : messages) {
    list.push_back(chat::Dict{{"role", message.role}, {"content", message.content}});
  }
  chat::Dict variables = {{"messages", std::move(list)},
                          {"tools", chat::None{}},
                          {"documents", chat::None{}},
                          {"add_generation_prompt", options.add_generation_prompt},
                          {"bos_token", options.bos_token},
                          {"eos_token", options.eos_token}};
  auto text = chat::RunTemplate(*tree_, std::move(variables), options.now);
  TREFOIL_RETURN_IF_ERROR(InTemplate(text.status()));
  return text;
}

absl::StatusOr<std::string> TemplateOfConfig(const std::string& tokenizer_config) {
  TREFOIL_ASSIGN_OR_RETURN(const Json json, Parsed(tokenizer_config));
  if (!json.contains("chat_template")) return "";
  const Json& found = json["chat_template"];
  if (found.is_string()) return found.get<std::string>();
  for (const Json& one : found.is_array() ? found : Json::array()) {
    if (one.is_object() && one.value("name", "") == "default" && one.contains("template") && one["template"].is_string()) {
      return one["template"].get<std::string>();
    }
  }
  return "";
}

absl::StatusOr<std::string> SymbolOfConfig(const std::string& tokenizer_config, const std::string& name) {
  TREFOIL_ASSIGN_OR_RETURN(const Json json, Parsed(tokenizer_config));
  if (!json.contains(name)) return "";
  const Json& symbol = json[name];
  if (symbol.is_string()) return symbol.get<std::string>();
  if (symbol.is_object() && symbol.contains("content") && symbol["content"].is_string()) {
    return symbol["content"].get<std::string>();
  }
  return "";
}

}  // namespace trefoil
