#include "data/evaluation/benchmarks.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <span>

#include "data/evaluation/json_fields.h"
#include "data/text/utf8.h"

namespace trefoil {
namespace {

using Json = nlohmann::json;

struct Layout {
  const char* name;
  std::vector<const char*> fields;
};

std::span<const Layout> Layouts() {
  static const std::vector<Layout>& layouts = *new std::vector<Layout>{
      {"HellaSwag", {"activity_label", "ctx_a", "ctx_b", "endings", "label"}},
      {"ARC", {"question", "choices", "answerKey"}},
      {"PIQA", {"goal", "sol1", "sol2", "label"}},
      {"WinoGrande", {"sentence", "option1", "option2", "answer"}},
  };
  return layouts;
}

std::string Stripped(std::string_view text) {
  for (size_t n; !text.empty() && (n = SpaceLength(text)) > 0;) text.remove_prefix(n);
  size_t end = 0;  // behind the last character that is no space
  for (size_t at = 0; at < text.size();) {
    const size_t space = SpaceLength(text.substr(at));
    at += space > 0 ? space : std::max<size_t>(1, Utf8Length(text.substr(at)));
    if (space == 0) end = at;
  }
  return std::string(text.substr(0, end));
}

// WikiHow's marks: titles and what is in brackets.
std::string WithoutBrackets(const std::string& raw) {
  const std::string text = absl::StrReplaceAll(Stripped(raw), {{" [title]", ". "}});
  std::string kept;
  for (size_t at = 0; at < text.size();) {
    const size_t close = text[at] == '[' ? text.find(']', at) : std::string::npos;
    // As far as the line goes.
    if (close != std::string::npos && text.find('\n', at) > close) {
      at = close + 1;
    } else {
      kept += text[at++];
    }
  }
  return absl::StrReplaceAll(kept, {{"  ", " "}});
}

// As Python's str.capitalize does of ASCII: the first letter large, the others small.
std::string Capitalized(std::string text) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (i == 0 && text[i] >= 'a' && text[i] <= 'z') text[i] = static_cast<char>(text[i] - 'a' + 'A');
    if (i > 0 && text[i] >= 'A' && text[i] <= 'Z') text[i] = static_cast<char>(text[i] - 'A' + 'a');
  }
  return text;
}

void AddChoices(const std::string& context, std::span<const std::string> choices, EvaluationExample* example) {
  for (const std::string& choice : choices) {
    example->continuations.push_back({.context = context, .text = " " + choice, .answer = choice});
  }
}

absl::StatusOr<EvaluationExample> HellaSwag(const Fields& fields) {
  EvaluationExample example;
  TREFOIL_ASSIGN_OR_RETURN(const std::string activity, fields.Text("activity_label"));
  TREFOIL_ASSIGN_OR_RETURN(const std::string a, fields.Text("ctx_a"));
  TREFOIL_ASSIGN_OR_RETURN(const std::string b, fields.Text("ctx_b"));
  TREFOIL_ASSIGN_OR_RETURN(std::vector<std::string> endings, fields.Texts("endings", 2));
  TREFOIL_ASSIGN_OR_RETURN(example.right, fields.Index("label", endings.size()));
  for (std::string& ending : endings) ending = WithoutBrackets(ending);
  AddChoices(WithoutBrackets(absl::StrCat(activity, ": ", a, " ", Capitalized(b))), endings, &example);
  return example;
}

absl::StatusOr<EvaluationExample> Arc(const Fields& fields, const Json& line) {
  EvaluationExample example;
  TREFOIL_ASSIGN_OR_RETURN(const std::string question, fields.Text("question"));
  if (!line["choices"].is_object()) return fields.Bad("choices", "an object with \"text\" and \"label\"");
  const Fields of_choices(line["choices"], "\"choices\" of ARC have \"text\" and \"label\", a list each");
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> choices, of_choices.Texts("text", 2));
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> labels, of_choices.Texts("label", 2));
  TREFOIL_ASSIGN_OR_RETURN(const std::string key, fields.Text("answerKey"));
  const auto found = std::find(labels.begin(), labels.end(), key);
  if (found == labels.end() || labels.size() != choices.size()) {
    return fields.Bad("answerKey", "one of the labels of the choices, of which there are as many as texts");
  }
  example.right = found - labels.begin();
  AddChoices(absl::StrCat("Question: ", question, "\nAnswer:"), choices, &example);
  return example;
}

absl::StatusOr<EvaluationExample> Piqa(const Fields& fields) {
  EvaluationExample example;
  TREFOIL_ASSIGN_OR_RETURN(const std::string goal, fields.Text("goal"));
  TREFOIL_ASSIGN_OR_RETURN(const std::string first, fields.Text("sol1"));
  TREFOIL_ASSIGN_OR_RETURN(const std::string second, fields.Text("sol2"));
  TREFOIL_ASSIGN_OR_RETURN(example.right, fields.Index("label", 2));
  AddChoices(absl::StrCat("Question: ", goal, "\nAnswer:"), std::array{first, second}, &example);
  return example;
}

// The options are part of what comes before; what comes behind is the same for both.
absl::StatusOr<EvaluationExample> WinoGrande(const Fields& fields) {
  EvaluationExample example;
  TREFOIL_ASSIGN_OR_RETURN(const std::string sentence, fields.Text("sentence"));
  TREFOIL_ASSIGN_OR_RETURN(example.right, fields.Index("answer", 2, /*first=*/1));
  const size_t gap = sentence.find('_');
  if (gap == std::string::npos) return fields.Bad("sentence", "a text with a gap _");
  const std::string behind = Stripped(std::string_view(sentence).substr(gap + 1));
  for (const char* name : {"option1", "option2"}) {
    TREFOIL_ASSIGN_OR_RETURN(const std::string option, fields.Text(name));
    example.continuations.push_back(
        {.context = sentence.substr(0, gap) + option, .text = " " + behind, .answer = behind});
  }
  return example;
}

}  // namespace

const char* BenchmarkOf(const Json& line) {
  for (const Layout& layout : Layouts()) {
    const auto has = [&](const char* field) { return line.contains(field); };
    if (std::all_of(layout.fields.begin(), layout.fields.end(), has)) return layout.name;
  }
  return nullptr;
}

absl::StatusOr<EvaluationExample> BenchmarkExample(const std::string& benchmark, const Json& line) {
  const auto layout =
      std::find_if(Layouts().begin(), Layouts().end(), [&](const Layout& each) { return each.name == benchmark; });
  std::string takes = benchmark + " has ";
  for (const char* field : layout->fields)
    absl::StrAppend(&takes, field == layout->fields[0] ? "\"" : ", \"", field, "\"");
  const Fields fields(line, takes);
  for (const char* field : layout->fields) {
    if (!fields.Has(field)) return fields.Text(field).status();
  }
  if (benchmark == "HellaSwag") return HellaSwag(fields);
  if (benchmark == "ARC") return Arc(fields, line);
  return benchmark == "PIQA" ? Piqa(fields) : WinoGrande(fields);
}

}  // namespace trefoil
