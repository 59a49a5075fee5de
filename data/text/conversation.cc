#include "data/text/conversation.h"

namespace trefoil {
namespace {

constexpr char kAssistant[] = "assistant";

void AppendRole(Tokenizer& tokenizer, const std::string& role, std::vector<int32_t>* ids) {
  const std::vector<int32_t> line = tokenizer.Encode(role + "\n");
  ids->insert(ids->end(), line.begin(), line.end());
}

}  // namespace

const std::vector<std::string>& Roles() {
  static const auto& roles = *new std::vector<std::string>{"system", "user", kAssistant};
  return roles;
}

void AppendMessage(Tokenizer& tokenizer, const Message& message, std::vector<int32_t>* ids,
                   std::vector<int32_t>* answers) {
  AppendRole(tokenizer, message.role, ids);
  answers->resize(ids->size(), 0);
  const std::vector<int32_t> content = tokenizer.Encode(message.content, /*before=*/"\n");
  ids->insert(ids->end(), content.begin(), content.end());
  ids->push_back(tokenizer.end_of_text());
  answers->resize(ids->size(), message.role == kAssistant ? 1 : 0);
}

void AppendPrompt(Tokenizer& tokenizer, std::vector<int32_t>* ids) { AppendRole(tokenizer, kAssistant, ids); }

}  // namespace trefoil
