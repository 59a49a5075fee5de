#include "launcher/generation/chat.h"

#include <absl/strings/str_cat.h>

#include <nlohmann/json.hpp>
#include <utility>

namespace trefoil {

absl::StatusOr<Chat> Chat::Of(const Tokenizer& tokenizer, const std::string& run, std::time_t now) {
  const TokenizerFiles& files = tokenizer.files();
  std::string source = files.chat_template;
  if (source.empty()) {
    TREFOIL_ASSIGN_OR_RETURN(source, TemplateOfConfig(files.config));
  }
  if (source.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--chat: the tokenizer of ", run, " has no chat template; put one into ",
                                                   run, "/chat_template.jinja, or leave --chat out"));
  }
  TREFOIL_ASSIGN_OR_RETURN(ChatTemplate chat, ChatTemplate::Parse(source));
  ChatOptions options;
  TREFOIL_ASSIGN_OR_RETURN(options.bos_token, SymbolOfConfig(files.config, "bos_token"));
  TREFOIL_ASSIGN_OR_RETURN(options.eos_token, SymbolOfConfig(files.config, "eos_token"));
  localtime_r(&now, &options.now);
  return Chat(std::move(chat), std::move(options));
}

absl::StatusOr<std::vector<int32_t>> Chat::Ids(Tokenizer& tokenizer, std::span<const Message> messages) const {
  TREFOIL_ASSIGN_OR_RETURN(const std::string text, template_.Write(messages, options_));
  std::vector<int32_t> ids = tokenizer.Encode(text);
  if (ids.empty()) return absl::InvalidArgumentError("--chat: the template writes nothing of these messages");
  return ids;
}

absl::StatusOr<std::vector<int32_t>> EndTokens(FileSystem& fs, const std::string& run, int64_t vocabulary) {
  const std::string path = run + "/generation_config.json";
  if (!fs.Exists(path)) return std::vector<int32_t>();
  TREFOIL_ASSIGN_OR_RETURN(const std::string content, ReadFile(fs, path));
  const auto json = nlohmann::json::parse(content, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError(path + ": is no JSON object");
  if (!json.contains("eos_token_id") || json["eos_token_id"].is_null()) return std::vector<int32_t>();
  const nlohmann::json& named = json["eos_token_id"];
  const size_t count = named.is_array() ? named.size() : 1;
  std::vector<int32_t> ends;
  for (size_t i = 0; i < count; ++i) {
    const nlohmann::json& id = named.is_array() ? named[i] : named;
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= static_cast<uint64_t>(vocabulary)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": eos_token_id: ", id.dump(), ", must be a token below ", vocabulary));
    }
    ends.push_back(static_cast<int32_t>(id.get<int64_t>()));
  }
  return ends;
}

}  // namespace trefoil
