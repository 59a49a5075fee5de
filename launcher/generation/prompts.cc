#include "launcher/generation/prompts.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "data/text/byte_source.h"
#include "data/text/corpus.h"
#include "data/text/utf8.h"

namespace trefoil {
namespace {

using Json = nlohmann::json;

template <typename... Parts>
absl::Status Bad(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

absl::StatusOr<Prompt> PromptOfJson(const std::string& line, const std::string& place) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Bad(place, ": is no JSON object");
  Prompt prompt = {.place = place};
  for (const char* field : {"prompt", "text"}) {
    if (!json.contains(field)) continue;
    if (!json[field].is_string()) return Bad(place, ": \"", field, "\" is no text");
    prompt.text = json[field];
    return prompt;
  }
  if (!json.contains("messages")) return Bad(place, ": has none of the fields \"prompt\", \"text\", \"messages\"");
  const Json& messages = json["messages"];
  if (!messages.is_array() || messages.empty()) return Bad(place, ": \"messages\" is no list of messages");
  for (const Json& message : messages) {
    const bool whole = message.is_object() && message.contains("role") && message["role"].is_string() &&
                       message.contains("content") && message["content"].is_string();
    if (!whole) return Bad(place, ": a message is no object with the texts \"role\" and \"content\"");
    prompt.messages.push_back({.role = message["role"], .content = message["content"]});
  }
  return prompt;
}

}  // namespace

absl::Status CheckText(const std::string& text, const std::string& place) {
  for (size_t at = 0; at < text.size();) {
    const size_t bytes = Utf8Length(std::string_view(text).substr(at));
    if (bytes == 0) return Bad(place, ": byte ", at + 1, " is not UTF-8; convert the text to UTF-8");
    at += bytes;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Prompt>> ReadPrompts(const std::string& path, Group& all) {
  absl::StatusOr<std::string> read = std::string();
  if (all.rank() == 0) read = ReadDecompressed(path);
  TREFOIL_RETURN_IF_ERROR(all.Agree(read.status()));
  std::vector<std::string> lines = absl::StrSplit(all.BroadcastString(*read), '\n');
  if (lines.back().empty()) lines.pop_back();
  if (lines.empty()) return Bad("--prompts: ", path, " is empty; a text a line is asked for");
  const std::string name = path == "-" ? "standard input" : path;
  std::vector<Prompt> prompts;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].ends_with('\r')) lines[i].pop_back();
    const std::string place = absl::StrCat(name, ": line ", i + 1);
    TREFOIL_RETURN_IF_ERROR(CheckText(lines[i], place));
    if (!IsJsonLines(path)) {
      prompts.push_back({.text = lines[i], .place = place});
      continue;
    }
    if (lines[i].find_first_not_of(" \t") == std::string::npos) continue;
    TREFOIL_ASSIGN_OR_RETURN(Prompt prompt, PromptOfJson(lines[i], place));
    prompts.push_back(std::move(prompt));
  }
  if (prompts.empty()) return Bad("--prompts: ", path, " has blank lines only");
  return prompts;
}

}  // namespace trefoil
