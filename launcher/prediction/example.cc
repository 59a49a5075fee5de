#include "launcher/prediction/example.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

#include <utility>

#include "data/records/record_set.h"
#include "data/text/byte_source.h"
#include "data/text/corpus.h"
#include "data/text/utf8.h"

namespace trefoil {
namespace {

template <typename... Parts>
absl::Status Bad(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

absl::Status AddLines(const std::string& path, std::vector<Example>* examples) {
  TREFOIL_ASSIGN_OR_RETURN(const std::string content, ReadDecompressed(path));
  std::vector<std::string> lines = absl::StrSplit(content, '\n');
  if (lines.back().empty()) lines.pop_back();
  for (size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].ends_with('\r')) lines[i].pop_back();
    const std::string name = path == "-" ? "standard input" : path;
    TREFOIL_ASSIGN_OR_RETURN(Example example, ExampleOf(lines[i], absl::StrCat(name, ": line ", i + 1)));
    examples->push_back(std::move(example));
  }
  return absl::OkStatus();
}

RecordKind KindOf(TaskConfig::Kind task) {
  if (task == TaskConfig::TRANSLATION || task == TaskConfig::SPAN_CORRUPTION) return RecordKind::kPairs;
  return task == TaskConfig::ANSWERS ? RecordKind::kConversations : RecordKind::kLabels;
}

absl::Status AddJsonLines(const std::string& path, TaskConfig::Kind task, std::vector<Example>* examples) {
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<TextSlice> slices, SliceInputs({path}, /*slice_bytes=*/int64_t{1} << 40));
  for (const TextSlice& slice : slices) {
    TREFOIL_RETURN_IF_ERROR(ReadJsonLines(slice, [&](const JsonLine& line) -> absl::Status {
      auto record = ParseRecordLine(line.json, KindOf(task), AnswersIn::kSomeLines);
      if (!record.ok()) return line.Error(std::string(record.status().message()));
      if (task == TaskConfig::TOKEN_CLASSES && record->words.empty()) {
        return line.Error("has no field \"words\"; it is a list of words");
      }
      examples->push_back({.place = absl::StrCat(path, ": line ", line.line_in_slice), .record = *std::move(record)});
      return absl::OkStatus();
    }));
  }
  return absl::OkStatus();
}

// A token with a label begins a word.
void SetWords(const Record& parts, const std::vector<std::string>& labels, const Tokenizer& tokenizer,
              Example* example) {
  const std::vector<int32_t>&ids = parts[0], &of_tokens = parts[1];
  for (size_t begin = 0, end; begin < ids.size(); begin = end) {
    for (end = begin + 1; end < ids.size() && of_tokens[end] == 0;) ++end;
    example->word_ids.emplace_back(ids.begin() + begin, ids.begin() + end);
    example->record.words.push_back(tokenizer.Decode(example->word_ids.back()));
    example->record.word_labels.emplace_back();
    if (of_tokens[begin] > 0) example->record.word_labels.back() = labels[static_cast<size_t>(of_tokens[begin] - 1)];
  }
}

absl::Status AddRecords(const std::string& glob, TaskConfig::Kind task, Tokenizer& tokenizer,
                        std::vector<Example>* examples) {
  TREFOIL_ASSIGN_OR_RETURN(const RecordSet set, RecordSet::Open({glob}));
  TREFOIL_RETURN_IF_ERROR(set.CheckTokenizer(tokenizer.checksum(), "the run's tokenizer"));
  const RecordDescription& description = set.description();
  const bool pairs = KindOf(task) == RecordKind::kPairs;
  const bool fits = task == TaskConfig::ANSWERS         ? false
                    : pairs                             ? description.Find(RecordPart::kSource) == 0
                    : task == TaskConfig::TOKEN_CLASSES ? description.Find(RecordPart::kTokenLabels) == 1
                                                        : description.Find(RecordPart::kText) == 0;
  if (!fits) {
    return Bad(glob, ": records of ", Names(description.parts), ", which are not asked about with task.kind ",
               TaskConfig::Kind_Name(task),
               task == TaskConfig::ANSWERS ? "; give the .jsonl that they are made of" : "");
  }
  for (int64_t i = 0; i < set.size(); ++i) {
    TREFOIL_ASSIGN_OR_RETURN(Record parts, set.Read(i));
    Example example = {.place = absl::StrCat(glob, ": record ", i), .record = {}};
    example.record.text = tokenizer.Decode(parts[0]);
    if (description.Find(RecordPart::kTokenLabels) == 1) {
      SetWords(parts, description.labels, tokenizer, &example);
      examples->push_back(std::move(example));
      continue;
    }
    const int second = description.Find(pairs ? RecordPart::kTarget : RecordPart::kTextPair);
    if (second > 0) example.record.text_pair = tokenizer.Decode(parts[static_cast<size_t>(second)]);
    if (second > 0 && !pairs) example.pair_ids = parts[static_cast<size_t>(second)];
    if (description.Find(RecordPart::kLabel) > 0) {
      example.record.label = description.labels[static_cast<size_t>(parts.back()[0])];
    }
    if (description.Find(RecordPart::kValue) > 0) example.record.value = ValueOf(parts.back());
    example.ids = std::move(parts[0]);
    examples->push_back(std::move(example));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Example> ExampleOf(const std::string& text, const std::string& place) {
  if (text.find_first_not_of(" \t\n") == std::string::npos) return Bad(place, ": is empty; a text is asked for");
  for (size_t at = 0; at < text.size();) {
    const size_t bytes = Utf8Length(std::string_view(text).substr(at));
    if (bytes == 0) return Bad(place, ": byte ", at + 1, " is not UTF-8; convert the text to UTF-8");
    at += bytes;
  }
  return Example{.place = place, .record = {.text = text}};
}

absl::StatusOr<std::vector<Example>> ReadExamples(FileSystem& fs, const std::vector<std::string>& inputs,
                                                  TaskConfig::Kind task, Tokenizer& tokenizer) {
  std::vector<Example> examples;
  for (const std::string& input : inputs) {
    const size_t before = examples.size();
    if (input == "-") {
      TREFOIL_RETURN_IF_ERROR(AddLines(input, &examples));
    } else if (!fs.Exists(input) && !Glob(input + ".idx").empty()) {
      TREFOIL_RETURN_IF_ERROR(AddRecords(input, task, tokenizer, &examples));
    } else {
      TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ExpandInputs({input}));
      for (const std::string& path : paths) {
        TREFOIL_RETURN_IF_ERROR(IsJsonLines(path) ? AddJsonLines(path, task, &examples) : AddLines(path, &examples));
      }
    }
    if (examples.size() == before) return Bad("--input: ", input, " is empty; a text a line is asked for");
  }
  return examples;
}

}  // namespace trefoil
