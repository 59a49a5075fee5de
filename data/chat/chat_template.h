// How a model wants a conversation written: the template that comes with its tokenizer, in Jinja (jinja.palletsprojects.com).
//
//   TREFOIL_ASSIGN_OR_RETURN(const ChatTemplate chat, ChatTemplate::Parse(source));
//   TREFOIL_ASSIGN_OR_RETURN(const std::string text, chat.Write(messages, {.bos_token = "<s>", .eos_token = "</s>"}));
//
// This is a subset of Jinja as Hugging Face's apply_chat_template sets it up (trim_blocks, lstrip_blocks, break and
// continue, {% generation %}):
//
//   statements    if elif else, for (with if, else, several names; loop.first, last, index, index0, length, revindex,
//                 previtem, nextitem), set (of a name, a namespace's attribute, a block), macro, break, continue, comments
//   expressions   texts, numbers, lists, dicts, attributes, indices, slices, calls, x if c else y, and or not, == != < > <=
//                 >= in, + - * // % ~
//   filters       default, tojson, string, trim, upper, lower, capitalize, title, replace, length, int, join, selectattr,
//                 rejectattr, select, reject, map, items, list, first, last, reverse, safe
//   tests         defined, undefined, none, string, mapping, iterable, sequence, boolean, number, integer, true, false, eq, ne,
//                 in
//   methods       strip, lstrip, rstrip, split, startswith, endswith, replace, upper, lower, capitalize, title, join of
//                 texts; get, items, keys, values of mappings
//   functions     range, namespace, dict, raise_exception, strftime_now
//
// What is not in it is refused by its name, when the template is parsed or, of filters, tests, methods and functions, when it
// comes to them. upper, lower and the like are of ASCII letters. A template comes from anywhere: its steps, depth and output
// are limited, and it can reach nothing but the messages.
//
// Threads: immutable.
#pragma once

#include <ctime>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "data/text/conversation.h"
#include "runtime/status.h"

namespace trefoil {

namespace chat {
struct Node;
}

struct ChatOptions {
  std::string bos_token = "", eos_token = "";  // as text
  bool add_generation_prompt = true;           // what comes before an answer follows
  std::tm now = {};                            // of strftime_now
};

class ChatTemplate {
 public:
  static absl::StatusOr<ChatTemplate> Parse(std::string_view source);
  // Failure: what the template refuses, in its own words; what is not in the subset; a limit. With the template's line.
  absl::StatusOr<std::string> Write(std::span<const Message> messages, const ChatOptions& options) const;

 private:
  std::shared_ptr<const chat::Node> tree_;
};

// Of tokenizer_config.json: its chat_template (a text, or a list of which the one named "default" counts), empty if there is
// none; and the text of a symbol ("bos_token"), empty if there is none. Failure: no JSON.
absl::StatusOr<std::string> TemplateOfConfig(const std::string& tokenizer_config);
absl::StatusOr<std::string> SymbolOfConfig(const std::string& tokenizer_config, const std::string& name);

}  // namespace trefoil
