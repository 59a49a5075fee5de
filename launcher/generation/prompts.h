// What a model is to go on from: texts from the command line or from a file.
//
//   TREFOIL_ASSIGN_OR_RETURN(const std::vector<Prompt> prompts, ReadPrompts("stories.jsonl", world.all()));
//
// A file is, by its name,
//   x.jsonl[.gz|.zst]     {"prompt": "Once upon"} or {"text": "Once upon"} a line, or {"messages": [{"role": "user",
//                         "content": "2 + 2?"}]}; other fields are passed over
//   -                     standard input of rank 0, lines
//   any other[.gz|.zst]   a text a line
#pragma once

#include <string>
#include <vector>

#include "data/text/conversation.h"
#include "parallel/collectives/group.h"
#include "runtime/status.h"

namespace trefoil {

struct Prompt {
  std::string text = "";
  std::vector<Message> messages = {};  // in place of a text
  std::string place = "";               // "stories.jsonl: line 3", for messages to people
};

// Rank 0 reads; every rank makes the same call and gets the same. Failure: a file that is missing or empty, a line that is
// none of these, or not UTF-8, named by its number.
absl::StatusOr<std::vector<Prompt>> ReadPrompts(const std::string& path, Group& all);

// Not UTF-8: an error that names the place.
absl::Status CheckText(const std::string& text, const std::string& place);

}  // namespace trefoil
