// Conversations with a model by its own chat template (data/chat/chat_template.h), and the tokens that end what it says.
//
//   TREFOIL_ASSIGN_OR_RETURN(const Chat chat, Chat::Of(tokenizer, "runs/a", std::time(nullptr)));
//   TREFOIL_ASSIGN_OR_RETURN(std::vector<int32_t> ids, chat.Ids(tokenizer, messages));   // up to where its answer begins
#pragma once

#include <cstdint>
#include <ctime>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "data/chat/chat_template.h"
#include "data/tokens/tokenizer.h"
#include "runtime/files/file.h"

namespace trefoil {

class Chat {
 public:
  // The template is chat_template.jinja, or else in tokenizer_config.json, beside the tokenizer. `run` is for messages; `now`,
  // of templates that write the date, is to be the same on all ranks.
  // Failure: there is none, or it is not in the subset of Jinja that is known.
  static absl::StatusOr<Chat> Of(const Tokenizer& tokenizer, const std::string& run, std::time_t now);
  // Nothing is put before what the template writes.
  absl::StatusOr<std::vector<int32_t>> Ids(Tokenizer& tokenizer, std::span<const Message> messages) const;

 private:
  Chat(ChatTemplate chat, ChatOptions options) : template_(std::move(chat)), options_(std::move(options)) {}

  ChatTemplate template_;
  ChatOptions options_;
};

// The tokens that end a text by generation_config.json in the run's folder (eos_token_id, a number or several); none without
// that file. Failure: one that is no JSON, or names a token that there is not.
absl::StatusOr<std::vector<int32_t>> EndTokens(FileSystem& fs, const std::string& run, int64_t vocabulary);

}  // namespace trefoil
