#include "data/text/record_line.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>

#include "data/text/json_sax.h"

namespace trefoil {
namespace {

using Json = nlohmann::json;

constexpr const char* kNames[] = {"pairs", "labels", "conversations"};  // in the order of RecordKind
constexpr int64_t kMostClasses = 1 << 16;

template <typename... What>
absl::Status Error(const What&... what) {
  return absl::InvalidArgumentError(absl::StrCat(what...));
}

// A value as messages show it: not whole novels.
std::string Shown(const Json& json) {
  std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  constexpr size_t kMost = 60;
  if (text.size() > kMost) text = text.substr(0, kMost) + " ...";
  return text;
}

absl::StatusOr<std::string> TextOf(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) return Error("has no field \"", name, "\"; it is a text");
  if (!found->is_string()) return Error("field \"", name, "\" is ", Shown(*found), "; it is a text");
  if (found->get_ref<const std::string&>().empty()) return Error("field \"", name, "\" is empty; it is a text");
  return found->get<std::string>();
}

absl::StatusOr<Class> ClassOf(const Json& label) {
  if (label.is_string() && !label.get_ref<const std::string&>().empty()) return Class(label.get<std::string>());
  if (label.is_number_integer()) {
    const auto number = label.get<int64_t>();
    if (number >= 0 && number < kMostClasses) return Class(number);
    return Error("field \"label\" has class ", Shown(label), "; numbers of classes are in [0, ", kMostClasses,
                 "), other classes have names");
  }
  return Error("field \"label\" has ", Shown(label), "; a class is a name or a whole number");
}

absl::Status ReadWords(const Json& object, AnswersIn answers, RecordLine* record) {
  const Json& words = object["words"];
  Json labels = object.contains("label") ? object["label"] : Json();
  if (!words.is_array() || words.empty()) return Error("field \"words\" is ", Shown(words), "; it is a list of words");
  if (labels.is_null() && answers == AnswersIn::kSomeLines) labels = std::vector<Json>(words.size());
  if (!labels.is_array() || labels.size() != words.size()) {
    return Error("field \"label\" is ", Shown(labels), "; with \"words\" it is a list as long, of ", words.size());
  }
  for (const Json& word : words) {
    if (!word.is_string() || word.get_ref<const std::string&>().empty()) {
      return Error("field \"words\" has ", Shown(word), "; it is a list of words");
    }
    record->words.push_back(word.get<std::string>());
  }
  for (const Json& label : labels) {
    record->word_labels.emplace_back();
    if (label.is_null()) continue;
    TREFOIL_ASSIGN_OR_RETURN(record->word_labels.back(), ClassOf(label));
  }
  record->text = absl::StrJoin(record->words, " ");
  return absl::OkStatus();
}

absl::Status ReadLabelled(const Json& object, AnswersIn answers, RecordLine* record) {
  if (object.contains("words")) return ReadWords(object, answers, record);
  TREFOIL_ASSIGN_OR_RETURN(record->text, TextOf(object, "text"));
  if (object.contains("text_pair")) {
    TREFOIL_ASSIGN_OR_RETURN(record->text_pair, TextOf(object, "text_pair"));
  }
  const auto label = object.find("label");
  if (label == object.end() && answers == AnswersIn::kSomeLines) return absl::OkStatus();
  if (label == object.end()) return Error("has no field \"label\"; it is a class's name or number, or a value");
  if (label->is_number_float()) {
    record->value = label->get<float>();
    if (!std::isfinite(*record->value))
      return Error("field \"label\" is ", Shown(*label), "; values are finite floats");
    return absl::OkStatus();
  }
  if (label->is_array()) return Error("field \"label\" is a list; that needs a list \"words\" in place of \"text\"");
  TREFOIL_ASSIGN_OR_RETURN(record->label, ClassOf(*label));
  return absl::OkStatus();
}

absl::Status ReadConversation(const Json& object, AnswersIn answers, RecordLine* record) {
  const Json messages = object.contains("messages") ? object["messages"] : Json();
  if (!messages.is_array() || messages.empty()) {
    return Error("field \"messages\" is ", Shown(messages), R"(; it is a list of {"role": ..., "content": ...})");
  }
  bool answered = false;
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto place = [&](const absl::Status& status) {
      return Error("message ", i + 1, " ", std::string(status.message()));
    };
    if (!messages[i].is_object()) return Error("message ", i + 1, " is ", Shown(messages[i]), "; it is an object");
    const auto role = TextOf(messages[i], "role"), content = TextOf(messages[i], "content");
    if (!role.ok()) return place(role.status());
    if (!content.ok()) return place(content.status());
    if (std::find(Roles().begin(), Roles().end(), *role) == Roles().end()) {
      const std::string nearest = NearestName(*role, Roles());
      return Error("message ", i + 1, " has role \"", *role, "\"; roles are ", absl::StrJoin(Roles(), ", "),
                   nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?"));
    }
    if (*role == "user" && record->text.empty()) record->text = *content;
    answered = answered || *role == "assistant";
    record->messages.push_back({.role = *role, .content = *content});
  }
  if (!answered && answers == AnswersIn::kEachLine) return Error("field \"messages\" has none of role assistant, so that nothing is to be learnt");
  if (record->text.empty()) record->text = record->messages.front().content;
  return absl::OkStatus();
}

}  // namespace

const char* Name(RecordKind kind) { return kNames[static_cast<size_t>(kind)]; }

absl::StatusOr<RecordKind> RecordKindOf(const std::string& name, const std::string& what) {
  const auto found = std::find(std::begin(kNames), std::end(kNames), name);
  if (found != std::end(kNames)) return static_cast<RecordKind>(found - std::begin(kNames));
  const std::string nearest = NearestName(name, {std::begin(kNames), std::end(kNames)});
  return Error(what, ": ", name, " is none of ", absl::StrJoin(kNames, ", "),
               nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?"));
}

std::string Text(const Class& label) {
  return std::holds_alternative<std::string>(label) ? std::get<std::string>(label)
                                                    : absl::StrCat(std::get<int64_t>(label));
}

std::vector<RecordPart> RecordLine::parts() const {
  if (!messages.empty()) return {RecordPart::kConversation, RecordPart::kAnswers};
  if (!words.empty()) return {RecordPart::kText, RecordPart::kTokenLabels};
  if (!label && !value) return {RecordPart::kSource, RecordPart::kTarget};
  const RecordPart last = label ? RecordPart::kLabel : RecordPart::kValue;
  if (text_pair.empty()) return {RecordPart::kText, last};
  return {RecordPart::kText, RecordPart::kTextPair, last};
}

absl::StatusOr<RecordLine> ParseRecordLine(std::string_view json, RecordKind kind, AnswersIn answers) {
  const Json object = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded()) {
    JsonSax sax;
    Json::sax_parse(json, &sax);
    return Error(sax.problem);
  }
  if (!object.is_object()) return Error("is ", Shown(object), "; a line is a JSON object");
  RecordLine record;
  if (kind == RecordKind::kLabels) {
    TREFOIL_RETURN_IF_ERROR(ReadLabelled(object, answers, &record));
  } else if (kind == RecordKind::kConversations) {
    TREFOIL_RETURN_IF_ERROR(ReadConversation(object, answers, &record));
  } else {
    TREFOIL_ASSIGN_OR_RETURN(record.text, TextOf(object, "source"));
    if (object.contains("target") || answers == AnswersIn::kEachLine) {
      TREFOIL_ASSIGN_OR_RETURN(record.text_pair, TextOf(object, "target"));
    }
  }
  return record;
}

}  // namespace trefoil
