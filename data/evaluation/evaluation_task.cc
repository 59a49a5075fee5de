#include "data/evaluation/evaluation_task.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "data/evaluation/benchmarks.h"
#include "data/evaluation/json_fields.h"
#include "data/text/corpus.h"
#include "data/text/json_sax.h"
#include "data/text/utf8.h"

namespace trefoil {
namespace {

using Json = nlohmann::json;

constexpr std::array kKinds = {EvaluationKind::kPerplexity, EvaluationKind::kMultipleChoice, EvaluationKind::kLastWord,
                               EvaluationKind::kClassification};
constexpr char kKindNames[] = "perplexity, multiple_choice, last_word, classification";
constexpr int64_t kWholeFile = int64_t{1} << 60;

template <typename... Parts>
absl::Status Bad(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

std::optional<EvaluationKind> KindOf(std::string_view name) {
  for (const EvaluationKind kind : kKinds) {
    if (name == Name(kind)) return kind;
  }
  return std::nullopt;
}

std::string Takes(EvaluationKind kind) {
  switch (kind) {
    case EvaluationKind::kMultipleChoice:
      return "multiple_choice takes \"context\", \"choices\", \"answer\", and \"delimiter\" if it likes, or the fields "
             "of "
             "HellaSwag, ARC, PIQA or WinoGrande";
    case EvaluationKind::kClassification:
      return "classification takes \"text\" and \"label\"";
    default:
      return absl::StrCat(Name(kind), " takes \"text\"");
  }
}

absl::StatusOr<Json> Parse(const JsonLine& line) {
  JsonSax sax;
  if (!Json::sax_parse(line.json, &sax)) return Bad(sax.problem);
  Json json = Json::parse(line.json);
  if (!json.is_object()) return Bad("is no JSON object");
  return json;
}

// The lines of a .jsonl, one after the other.
class LineReader {
 public:
  LineReader(std::optional<EvaluationKind> kind, EvaluationTask* task) : kind_(kind), task_(*task) {}

  absl::Status Add(const JsonLine& line) {
    TREFOIL_ASSIGN_OR_RETURN(const Json json, Parse(line));
    const bool first = std::exchange(first_, false);
    if (first && json.contains("kind")) return ReadHeader(json);
    if (first || !begun_) TREFOIL_RETURN_IF_ERROR(Begin(json));
    TREFOIL_ASSIGN_OR_RETURN(EvaluationExample example, ExampleOf(json));
    example.place = absl::StrCat(task_.path, ": line ", line.line_in_slice);
    task_.examples.push_back(std::move(example));
    return absl::OkStatus();
  }

 private:
  absl::Status ReadHeader(const Json& json) {
    const Fields fields(json,
                        "a first line with \"kind\" has no others than \"kind\", and of classification \"labels\" and "
                        "\"after\"");
    TREFOIL_ASSIGN_OR_RETURN(const std::string name, fields.Text("kind"));
    const std::optional<EvaluationKind> kind = KindOf(name);
    if (!kind) return fields.Bad("kind", absl::StrCat("one of ", kKindNames));
    if (kind_ && *kind_ != *kind) return fields.Bad("kind", absl::StrCat("what the command line says: ", Name(*kind_)));
    kind_ = kind;
    for (const auto& item : json.items()) {
      const bool known = item.key() == "kind" || (*kind == EvaluationKind::kClassification &&
                                                  (item.key() == "labels" || item.key() == "after"));
      if (!known) return fields.Bad(item.key().c_str(), "left out");
    }
    if (*kind == EvaluationKind::kClassification) {
      TREFOIL_ASSIGN_OR_RETURN(labels_, fields.Texts("labels", 2));
      TREFOIL_ASSIGN_OR_RETURN(after_, fields.TextOr("after", ""));
    }
    return absl::OkStatus();
  }

  // By the first line that is an example.
  absl::Status Begin(const Json& json) {
    begun_ = true;
    if (!kind_ || *kind_ == EvaluationKind::kMultipleChoice) {
      if (const char* benchmark = BenchmarkOf(json)) benchmark_ = benchmark;
    }
    const bool chooses = json.contains("choices") || !benchmark_.empty();
    if (!kind_ && chooses) kind_ = EvaluationKind::kMultipleChoice;
    if (!kind_ && json.contains("text") && !json.contains("label")) kind_ = EvaluationKind::kPerplexity;
    if (kind_ == EvaluationKind::kClassification || (!kind_ && json.contains("text"))) {
      if (labels_.empty()) {
        return Bad(
            "the labels are not known: begin the file with {\"kind\": \"classification\", \"labels\": [\"bad\", "
            "\"good\"]}");
      }
    }
    if (!kind_) {
      return Bad(
          "which kind of task it is cannot be told: a line with \"choices\" is multiple_choice, one with \"text\" "
          "perplexity; or write KIND:FILE, with a KIND of ",
          kKindNames);
    }
    task_.kind = *kind_;
    return absl::OkStatus();
  }

  absl::StatusOr<EvaluationExample> ExampleOf(const Json& json) const {
    if (!benchmark_.empty()) return BenchmarkExample(benchmark_, json);
    const Fields fields(json, Takes(*kind_));
    EvaluationExample example;
    if (*kind_ == EvaluationKind::kMultipleChoice) {
      TREFOIL_ASSIGN_OR_RETURN(const std::string context, fields.Text("context"));
      TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> choices, fields.Texts("choices", 2));
      TREFOIL_ASSIGN_OR_RETURN(example.right, fields.Index("answer", choices.size()));
      TREFOIL_ASSIGN_OR_RETURN(const std::string delimiter, fields.TextOr("delimiter", " "));
      for (const std::string& choice : choices) {
        example.continuations.push_back({.context = context, .text = delimiter + choice, .answer = choice});
      }
      return example;
    }
    TREFOIL_ASSIGN_OR_RETURN(const std::string text, fields.Text("text"));
    if (text.empty()) return fields.Bad("text", "not empty");
    if (*kind_ == EvaluationKind::kPerplexity) {
      example.continuations.push_back({.context = "", .text = text, .answer = text});
      return example;
    }
    if (*kind_ == EvaluationKind::kLastWord) {
      const size_t space = text.rfind(' ');
      const size_t word = space == std::string::npos ? 0 : space + 1;
      if (word == text.size()) return fields.Bad("text", "a text that ends with a word, not with a space");
      example.continuations.push_back({.context = text.substr(0, word == 0 ? 0 : space),
                                       .text = " " + text.substr(word),
                                       .answer = text.substr(word)});
      return example;
    }
    TREFOIL_ASSIGN_OR_RETURN(example.right, LabelOf(fields, json));
    for (const std::string& label : labels_) {
      example.continuations.push_back({.context = text + after_, .text = " " + label, .answer = label});
    }
    return example;
  }

  absl::StatusOr<int64_t> LabelOf(const Fields& fields, const Json& json) const {
    if (json.contains("label") && json["label"].is_string()) {
      const auto found = std::find(labels_.begin(), labels_.end(), json["label"].get_ref<const std::string&>());
      if (found != labels_.end()) return found - labels_.begin();
      return fields.Bad("label", absl::StrCat("one of the labels of the first line, ", Json(labels_).dump()));
    }
    return fields.Index("label", labels_.size());
  }

  std::optional<EvaluationKind> kind_;
  EvaluationTask& task_;
  bool first_ = true, begun_ = false;
  std::string benchmark_;  // whose lines they are; empty: of none
  std::vector<std::string> labels_;
  std::string after_;
};

// "last_word:x.jsonl"
absl::StatusOr<std::string> TakeKind(const std::string& argument, std::optional<EvaluationKind>* kind) {
  const size_t colon = argument.find(':');
  if (colon == std::string::npos || argument.find('/') < colon) return argument;
  *kind = KindOf(argument.substr(0, colon));
  if (*kind) return argument.substr(colon + 1);
  return Bad(argument, ": ", argument.substr(0, colon), " is no kind of task; the kinds are ", kKindNames);
}

absl::Status ReadDocument(const TextSlice& slice, EvaluationTask* task) {
  Continuation document;
  TREFOIL_RETURN_IF_ERROR(ReadSlice(slice, /*block_bytes=*/1 << 20, /*any_bytes=*/false, [&](const TextBlock& block) {
    document.text += block.text;
    return absl::OkStatus();
  }));
  if (document.text.empty()) return absl::OkStatus();
  document.answer = document.text;
  task->examples.push_back({.place = task->path, .continuations = {std::move(document)}});
  return absl::OkStatus();
}

absl::StatusOr<EvaluationTask> ReadFile(const std::string& path, std::optional<EvaluationKind> kind, int64_t limit) {
  EvaluationTask task = {.name = std::filesystem::path(path).filename().string(), .path = path, .examples = {}};
  const bool lines = IsJsonLines(path);
  task.name = task.name.substr(0, task.name.rfind(lines ? ".jsonl" : ".txt"));
  if (!lines && kind.value_or(EvaluationKind::kPerplexity) != EvaluationKind::kPerplexity) {
    return Bad(path, ": ", Name(*kind),
               " is of lines of JSON, in a file NAME.jsonl; a file of another name is a document, of "
               "kind perplexity");
  }
  LineReader reader(kind, &task);
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<TextSlice> slices, SliceInputs({path}, kWholeFile));
  for (const TextSlice& slice : slices) {
    if (!lines) {
      TREFOIL_RETURN_IF_ERROR(ReadDocument(slice, &task));
      continue;
    }
    TREFOIL_RETURN_IF_ERROR(ReadJsonLines(slice, [&](const JsonLine& line) {
      if (limit > 0 && std::ssize(task.examples) == limit) return absl::OkStatus();
      const absl::Status added = reader.Add(line);
      return added.ok() ? added : line.Error(std::string(added.message()));
    }));
  }
  if (task.examples.empty()) return Bad(path, " has no example");
  return task;
}

bool IsSpace(uint32_t c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

}  // namespace

const char* Name(EvaluationKind kind) {
  switch (kind) {
    case EvaluationKind::kPerplexity:
      return "perplexity";
    case EvaluationKind::kMultipleChoice:
      return "multiple_choice";
    case EvaluationKind::kLastWord:
      return "last_word";
    case EvaluationKind::kClassification:
      return "classification";
  }
  return "";
}

absl::StatusOr<EvaluationTask> ReadEvaluationTask(const std::string& argument, int64_t limit) {
  TREFOIL_ASSIGN_OR_RETURN(std::vector<EvaluationTask> tasks, ReadEvaluationTasks(argument, limit));
  if (tasks.size() == 1) return std::move(tasks.front());
  return Bad(argument, " matches ", tasks.size(), " files, must be one");
}

absl::StatusOr<std::vector<EvaluationTask>> ReadEvaluationTasks(const std::string& arguments, int64_t limit) {
  std::vector<EvaluationTask> tasks;
  for (const std::string& argument : std::vector<std::string>(absl::StrSplit(arguments, ','))) {
    if (argument.empty()) return Bad("\"", arguments, "\": a file is missing beside a comma");
    std::optional<EvaluationKind> kind;
    TREFOIL_ASSIGN_OR_RETURN(const std::string pattern, TakeKind(argument, &kind));
    TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ExpandInputs({pattern}));
    for (const std::string& path : paths) {
      TREFOIL_ASSIGN_OR_RETURN(EvaluationTask task, ReadFile(path, kind, limit));
      tasks.push_back(std::move(task));
    }
  }
  return tasks;
}

int64_t Characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

size_t SpaceLength(std::string_view text) {
  const size_t bytes = Utf8Length(text);
  if (bytes == 0) return 0;
  const auto byte = [&](size_t i) { return uint32_t{static_cast<unsigned char>(text[i])}; };
  uint32_t character = bytes == 1 ? byte(0) : byte(0) & (0xffu >> (bytes + 1));
  for (size_t i = 1; i < bytes; ++i) character = character << 6 | (byte(i) & 0x3f);
  return IsSpace(character) ? bytes : 0;
}

int64_t Words(std::string_view text) {
  int64_t words = 1;
  bool in_space = false;
  for (size_t at = 0; at < text.size();) {
    const size_t space = SpaceLength(text.substr(at));
    if (space > 0 && !in_space) ++words;
    in_space = space > 0;
    at += space > 0 ? space : std::max<size_t>(1, Utf8Length(text.substr(at)));
  }
  return words;
}

}  // namespace trefoil
