// What a line of a .jsonl says as a record: the fields that `trefoil tokenize --records` reads.
//
//   kPairs           {"source": "Guten Tag.", "target": "Good day."}
//   kLabels          {"text": "A fine film.", "label": "good"}                       a class, by name or number
//                    {"text": "It rains.", "text_pair": "It is wet.", "label": 4.2}  a value: a number with a point
//                    {"words": ["Ann", "sings"], "label": ["name", null]}            a class for each word, or none
//   kConversations   {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4."}]}
//
//   TREFOIL_ASSIGN_OR_RETURN(const RecordLine record, ParseRecordLine(json, RecordKind::kPairs));
//
// Other fields are passed over. Texts are not empty. A conversation has an answer. Who asks a model takes lines without
// answers too: no "target", no "label", a conversation that ends with what is to be answered.
//
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "data/records/record_description.h"
#include "data/text/conversation.h"
#include "runtime/status.h"

namespace trefoil {

enum class RecordKind { kPairs, kLabels, kConversations };

// "pairs", "labels", "conversations".
const char* Name(RecordKind kind);
// The kind of that name. Failure: there is none; `what` ("--records") is where the name stands.
absl::StatusOr<RecordKind> RecordKindOf(const std::string& name, const std::string& what);

// A class by its name or by its number, as the line has it.
using Class = std::variant<std::string, int64_t>;
// "good", 3
std::string Text(const Class& label);

struct RecordLine {
  std::string text = "";       // or the source
  std::string text_pair = "";  // or the target; empty: there is none
  std::optional<Class> label = {};
  std::optional<float> value = {};
  std::vector<std::string> words = {};  // of `text`, which is these with spaces between
  std::vector<std::optional<Class>> word_labels = {};
  std::vector<Message> messages = {};  // `text` is the first of a user

  // Of the description: what documents the record becomes.
  std::vector<RecordPart> parts() const;
};

enum class AnswersIn { kEachLine, kSomeLines };

// Failure: broken JSON; a field that is missing, empty or of another type, named with its value. No place.
absl::StatusOr<RecordLine> ParseRecordLine(std::string_view json, RecordKind kind,
                                           AnswersIn answers = AnswersIn::kEachLine);

}  // namespace trefoil
