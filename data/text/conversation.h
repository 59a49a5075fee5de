// Conversations as tokens: how messages are put one after the other, in training and when a model is asked.
//
//   std::vector<int32_t> ids, answers;
//   AppendMessage(tokenizer, {.role = "user", .content = "What is 2 + 2?"}, &ids, &answers);
//   AppendMessage(tokenizer, {.role = "assistant", .content = "4."}, &ids, &answers);
//   // To ask: the messages so far, then AppendPrompt; the model's answer ends with its end of text.
//
// The template is plain, with no token of its own, so that any tokenizer and any decoder can take it:
//
//   conversation := message...      message := ROLE newline CONTENT end-of-text
//
// What a model is to learn are the assistant's contents, each with its end of text: that is where an answer stops.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tokens/tokenizer.h"

namespace trefoil {

// Of messages: "system", "user", "assistant".
const std::vector<std::string>& Roles();

struct Message {
  std::string role, content;
};

// Appends the message's tokens, and for each of them to `answers` 1 if it is to be learnt, else 0.
void AppendMessage(Tokenizer& tokenizer, const Message& message, std::vector<int32_t>* ids,
                   std::vector<int32_t>* answers);

// Appends what comes before an answer's content.
void AppendPrompt(Tokenizer& tokenizer, std::vector<int32_t>* ids);

}  // namespace trefoil
